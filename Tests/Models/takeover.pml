/*
 * Model of the takeover: what becomes of requests when the process that serves a town is killed.
 *
 * mount-scripts/model checks this file with spin (https://spinroot.com). Spin runs the steps below in every possible
 * order, with a kill between any two of them, and reports the first order that breaks a promise:
 *
 *   - Every operation takes effect exactly once.                    The assertion in take_effect.
 *   - Every call gets exactly one answer, the right one.            The assertion in send_reply.
 *   - A request gets EIO if two workers died executing it,
 *     and only then.                                                Assertions in begin_executing and send_reply.
 *   - Every call gets its answer once the kills stop.               No "invalid end state", and no cycle of steps.
 *
 * The phases of an operation record are `idle`, `executing` and `done`, as in the program; a record whose reply was
 * sent is `idle` again. A worker serves the town, a standby waits to replace it, the keeper watches both. `unique` is
 * the kernel's number of a request; bit 63 of it says that the request was read before by a process that died.
 *
 * Promela in six lines:
 *   "if :: a -> b :: c -> d fi"  takes a branch whose first statement can run: any of them, not the first.
 *   "do ... od"                  does that again and again, until a break.
 *   A condition used as a statement waits until it holds.
 *   "atomic { }", "d_step { }"   run as one step: no other process and no kill comes in between.
 *   "{ } unless { e; ... }"      leaves the first block for the second as soon as e holds: this is the kill.
 *   A label that begins with "end" marks where a process may wait for ever.
 *
 * A kill is possible between any two statements that are not in one such block. Stores that no other process can tell
 * apart share a block, which keeps the number of states small: a record's fields are read only after its phase is
 * stored, so both are stored together here. The program must store the phase last.
 *
 * The kernel sends a client's next request after the last one's answer, and holds the parent directory's lock from the
 * request to the answer. That is why create_new and unlink_new of one name are one client's here.
 *
 * Left out: the content of replies, io_uring, and the death of the keeper and all others at the same moment.
 *
 * Mistakes that a macro selects. In brackets: the run that must find it.
 *
 * RECORDS_IN_PLACE (names): each worker uses the same bank, and overwrites the records of the dead one
 * BANK_COUNTED_LATE (names): a thread serves before the successor has counted its bank as used
 * WOKEN_BEFORE_REAP (names): the standby is woken while a thread of the dead worker still runs
 * READ_BEFORE_RESEND (names): a thread of the successor reads before FUSE_NOTIFY_RESEND is written
 * NO_RECORDS (names): a resent request is run as new
 * DONE_AFTER_REPLY (touches): `done` is stored after the reply
 * DONE_HIDDEN (names): a later record in `executing` hides an earlier one that is `done`
 * ATTEMPTS_FORGOTTEN (names): an execution does not count the ones before it
 * NO_EXISTED (names): the record does not say whether the name existed before
 * EXISTED_ASKED_AGAIN (names): the second execution asks anew whether the name existed
 * TOUCH_DONE_LATE (touches): `done` of a touch is stored after the lock is released
 * TOUCH_SOUGHT_LATE (touches): the log is searched for a touch when its request is read, not before anyone serves
 * TOUCH_FOUND_PRIVATELY (touches): that a touch was found in the log is not stored where the next successor sees it
 * APPEND_AT_END (touches): an append writes at the end of the file, not at the kernel's offset
 * TWO_KEEPERS (names): two processes take the dead keeper's role
 *
 * Not a mistake, but a proof that the model gets as far as this:
 *
 * EIO_NEVER (names): claims that no request ever gets EIO
 */

/* ---- What is checked: the requests of one run, and the number of kills. ---- */

#ifndef OPERATION_1
#define OPERATION_1 create_new      /* requests 1 and 2 are made by one client, in this order */
#define OPERATION_2 unlink_new
#define OPERATION_3 create_old      /* requests 3 and 4 are made by two more clients */
#define OPERATION_4 nothing
#endif
#ifndef WORKER_DEATHS
#define WORKER_DEATHS 2
#endif
#ifndef KEEPER_DEATHS
#define KEEPER_DEATHS 1
#endif

#define REQUESTS 4
#define OPERATION(u) ((u) == 1 -> OPERATION_1 : ((u) == 2 -> OPERATION_2 : ((u) == 3 -> OPERATION_3 : OPERATION_4)))

mtype:operation = {
    create_new,     /* open(O_CREAT | O_EXCL) of a name that does not exist: 0 */
    unlink_new,     /* unlink of that name: 0 */
    create_old,     /* the same of a name that exists: EEXIST, and it must stay EEXIST */
    append,         /* write to a file opened with O_APPEND */
    touch,          /* a touch; several clients touch the same runtime id */
    stat,           /* an operation that may run any number of times */
    nothing         /* no such request in this run */
};
mtype:errno = { OK, EEXIST, ENOENT, EIO };
mtype:phase = { idle, executing, done };

/* ---- The kernel. ---- */

mtype:request = { unsent, pending, processing, answered };

mtype:request request[REQUESTS + 1] = unsent;   /* pending: in the queue; processing: read and not answered */
bool resent[REQUESTS + 1];                      /* FUSE_UNIQUE_RESEND, bit 63 of the unique */

#define resent_pending(u) (request[u] == pending && resent[u])
#define any_resent_pending (resent_pending(1) || resent_pending(2) || resent_pending(3) || resent_pending(4))

/* Resent requests come before all others. Among themselves they have any order: the kernel takes them from a hash. */
#define readable(u) (request[u] == pending && (resent[u] || !any_resent_pending))

/* FUSE_NOTIFY_RESEND. */
inline notify_resend() {
    d_step {
        for (i : 1 .. REQUESTS) {
            if
            :: request[i] == processing -> request[i] = pending; resent[i] = true
            :: else
            fi
        }
        i = 0
    }
}

/* ---- For the kills and the properties only; the program has none of this. ---- */

byte worker_deaths_left = WORKER_DEATHS;
byte keeper_deaths_left = KEEPER_DEATHS;
byte effects[REQUESTS + 1];             /* how often the operation took effect */
bool executing_now[REQUESTS + 1];       /* its record is in `executing` */
byte died_executing[REQUESTS + 1];      /* how many workers died in that phase of it */

inline take_effect(u) {
    effects[u]++;
    assert(effects[u] == 1)
}

/* A client may get the answer r to its request u. */
#define RIGHT(u, r) ( \
    (r) == EIO -> died_executing[u] >= 2 : ( \
    OPERATION(u) == create_old -> (r) == EEXIST : ( \
    OPERATION(u) == stat -> (r) == OK : \
    (r) == OK && effects[u] == 1)))

/* ---- The backing file system and the touches. Both outlive every process of ours. ---- */

bool new_exists;        /* the name that create_new makes and unlink_new removes */
byte length;            /* of the file that append writes to; the kernel asks for offset 0 */
byte last_touch;        /* unique of the last touch. The log keeps one per runtime id: the next one replaces it */

/* ---- Shared memory. ---- */

/*
 * An operation record. Each worker has a bank of its own, with a record for each of its threads. A successor reads the
 * banks of all workers before it, and never uses them for its own requests.
 */
typedef Record {
    byte unique;
    mtype:phase phase;
    mtype:errno result;     /* valid when done */
    bool existed;           /* whether the name existed before the operation began */
    byte attempts           /* how many workers have begun the operation, this one included */
};
#define LAST_RECORD (2 * WORKER_DEATHS + 1)
Record records[LAST_RECORD + 1];
byte banks_used = 1;

/* ---- Processes of ours. Two places, used by turns: while one worker serves, the other place has the standby. ---- */

mtype:place = { vacant, standby, worker };

mtype:place place[2] = vacant;
bit current;                    /* the place of the worker */
bool serving[2];                /* the worker has taken over: its other thread may serve, too */
bool killed[4], gone[4];        /* per thread: must end now; has ended */

/* Private memory of a worker. */
byte bank[2];                   /* its bank */
bool locked[2];                 /* lock of the liveness table */
#ifdef TOUCH_FOUND_PRIVATELY
bool found[REQUESTS + 1];
#endif

#define THREAD(w, t) (2 * (w) + (t))
#define both_gone(w) (gone[THREAD(w, 0)] && gone[THREAD(w, 1)])

/* ---- Clients: each waits for an answer before its next call. ---- */

#define may_send(u) (OPERATION(u) != nothing && request[u] == unsent)
#define finished(u) (OPERATION(u) == nothing || request[u] == answered)

proctype clients() {
    do
    :: atomic { may_send(1) -> request[1] = pending }
    :: atomic { may_send(2) && finished(1) -> request[2] = pending }
    :: atomic { may_send(3) -> request[3] = pending }
    :: atomic { may_send(4) -> request[4] = pending }
    :: finished(1) && finished(2) && finished(3) && finished(4) -> break
    od
}

#define OWN (2 * bank[w] + t)
#define EARLIER (2 * bank[w])   /* records before this one are earlier workers' */

/* Fields of an idle record are never read; zeroed, equal states look equal to spin. */
inline clear_record(n) {
    records[n].phase = idle; records[n].unique = 0; records[n].result = OK;
    records[n].existed = false; records[n].attempts = 0
}

/* write(2) of a reply. The kernel knows the request by its unique with bit 63, and refuses any other with ENOENT. */
inline send_reply() {
    if
    :: request[u] == processing && resent[u] == flagged ->
        assert(RIGHT(u, result));
#ifdef EIO_NEVER
        assert(result != EIO);
#endif
        request[u] = answered;
        executing_now[u] = false;
        died_executing[u] = 0;
        /* An answered request is never resent, so its records are never read again. Clearing them saves states. */
        for (i : 0 .. LAST_RECORD) {
            if
            :: i < EARLIER && records[i].unique == u -> clear_record(i)
            :: else
            fi
        }
        i = 0;
        if
        :: u == 1 && result == EIO -> request[2] = answered     /* this client gives up */
        :: else
        fi
    :: else
    fi
}

/* ---- A worker's thread. ---- */

/* An earlier worker's touch that is in the log, so it happened. */
#define touch_in_log(i) (records[i].phase == executing && OPERATION(records[i].unique) == touch && \
    last_touch == records[i].unique)

/* The successor, before any of its threads serves. */
inline take_over() {
#ifdef RECORDS_IN_PLACE
    bank[w] = 0;
#else
    bank[w] = banks_used;
#endif
#ifdef TOUCH_FOUND_PRIVATELY
    d_step { for (i : 1 .. REQUESTS) { found[i] = false } }
#endif
    /*
     * Touches in the log are found now and stored in the dead worker's record: the next touch of the same runtime id
     * replaces them in the log, and the kernel holds no lock over them.
     */
    i = 0;
    do
    :: d_step { i < EARLIER && touch_in_log(i) ->
#ifndef TOUCH_SOUGHT_LATE
#ifdef TOUCH_FOUND_PRIVATELY
            found[records[i].unique] = true;
#else
            records[i].result = OK;
            records[i].phase = done;
#endif
#endif
            i++ }
    :: d_step { i < EARLIER && !touch_in_log(i) -> i++ }
    :: atomic { i == EARLIER -> i = 0; break }
    od;
    /* A kill before this: the next successor gets the same bank, in which nothing was stored. */
#ifdef BANK_COUNTED_LATE
    notify_resend();
    serving[w] = true;
    banks_used = bank[w] + 1
#else
    banks_used = bank[w] + 1;
#ifdef READ_BEFORE_RESEND
    serving[w] = true;
#endif
    notify_resend();
    serving[w] = true
#endif
}

/* read(2) of a request. */
inline read_request() {
    if
    :: readable(1) -> u = 1
    :: readable(2) -> u = 2
    :: readable(3) -> u = 3
    :: readable(4) -> u = 4
    fi;
    request[u] = processing;
    flagged = resent[u]
}

/* Finds what an earlier worker knew of the request: `known`, and with it result, existed, attempts. */
inline look_up() {
    known = idle;
#ifndef NO_RECORDS
    if
    :: flagged ->
        /* Oldest first: a later attempt at the same request replaces an earlier one. */
#ifdef RECORDS_IN_PLACE
        for (i : 0 .. 1) {
            if
            :: records[i].phase != idle && records[i].unique == u ->
#else
        for (i : 0 .. LAST_RECORD) {
            if
            :: i < EARLIER && records[i].phase != idle && records[i].unique == u ->
#endif
                known = records[i].phase; result = records[i].result;
                existed = records[i].existed; attempts = records[i].attempts
            :: else
            fi
        }
        i = 0
    :: else
    fi;
#ifdef TOUCH_FOUND_PRIVATELY
    if
    :: known == executing && found[u] -> known = done; result = OK
    :: else
    fi
#endif
#endif
}

#define name_exists(u) (OPERATION(u) == create_old || \
    ((OPERATION(u) == create_new || OPERATION(u) == unlink_new) && new_exists))

/* Stores the record, before anything of the request but its header is decoded. */
inline begin_executing() {
    records[OWN].unique = u;
#ifdef ATTEMPTS_FORGOTTEN
    records[OWN].attempts = 1;
#else
    records[OWN].attempts = attempts + 1;
#endif
#ifdef NO_EXISTED
    records[OWN].existed = (OPERATION(u) == unlink_new);
#else
#ifdef EXISTED_ASKED_AGAIN
    records[OWN].existed = name_exists(u);
#else
    /* The first execution may have made or removed the name: what it stored counts. */
    records[OWN].existed = (known == executing -> existed : name_exists(u));
#endif
#endif
    records[OWN].result = OK;
    records[OWN].phase = executing;
    assert(died_executing[u] < 2);
    executing_now[u] = true
}

inline store_done() {
#ifdef DONE_AFTER_REPLY
    skip
#else
    d_step { records[OWN].result = result; records[OWN].phase = done; executing_now[u] = false }
#endif
}

/*
 * The system call, then `done`. If `known` is executing, the operation may have happened already. The kernel holds the
 * lock of the parent directory until it has the answer, so a name that this operation made or removed is unchanged.
 */
inline execute() {
    if
    :: d_step { OPERATION(u) == create_new || OPERATION(u) == create_old ->
        if
        :: OPERATION(u) == create_new && !new_exists -> new_exists = true; take_effect(u); result = OK
        :: else -> result = (known == executing && !records[OWN].existed -> OK : EEXIST)
        fi };
        store_done()
    :: d_step { OPERATION(u) == unlink_new ->
        if
        :: new_exists -> new_exists = false; take_effect(u); result = OK
        :: else -> result = (known == executing && records[OWN].existed -> OK : ENOENT)
        fi };
        store_done()
    /* Written at the kernel's offset, not at the end: the second time writes the same bytes to the same place. */
    :: d_step { OPERATION(u) == append ->
        if
#ifndef APPEND_AT_END
        :: length > 0
#endif
        :: else -> length++; take_effect(u)
        fi;
        result = OK };
        store_done()
    :: atomic { OPERATION(u) == touch && !locked[w] ->
        locked[w] = true;
#ifdef TOUCH_SOUGHT_LATE
        if
        :: known == executing && last_touch == u
        :: else -> last_touch = u; take_effect(u)
        fi;
#else
        last_touch = u; take_effect(u);
#endif
        result = OK };
        /* Under the lock: after it, another touch may replace this one in the log. */
#ifdef TOUCH_DONE_LATE
        locked[w] = false;
        store_done()
#else
        store_done();
        locked[w] = false
#endif
    :: d_step { OPERATION(u) == stat -> result = OK }
    fi
}

inline forget_request() {
    u = 0; flagged = false; known = idle; result = OK; existed = false; attempts = 0; i = 0
}

proctype thread(bit w, t) {
    byte u, i, attempts;
    bool flagged, existed;
    mtype:phase known = idle;
    mtype:errno result = OK;

end_sleep:
    do
    :: {
        place[w] == worker && !gone[THREAD(w, t)] && (t == 0 || serving[w]);
        if
        :: serving[w]
        :: else -> take_over()
        fi;
end_read:
        do
        :: atomic { read_request() }
            /* A kill here: read, no record. It never began, and is run as new. */
            atomic {
                look_up();
                if
                /* The stored reply. No record of its own: one in `executing` would hide the `done`. */
#ifdef DONE_HIDDEN
                :: known == done -> begin_executing()
#else
                :: known == done -> skip
#endif
                :: known == executing && attempts >= 2 -> result = EIO
                :: else -> begin_executing()
                fi
            }
            if
            :: known != done && records[OWN].phase == executing && records[OWN].unique == u -> execute()
            :: else
            fi;
            d_step { send_reply(); }
#ifdef DONE_AFTER_REPLY
            d_step { records[OWN].result = result; records[OWN].phase = done }
#endif
            /* A kill here: answered, so it is not resent, whatever its record says. */
            d_step {
                if
                :: records[OWN].unique == u -> clear_record(OWN)
                :: else
                fi;
                forget_request()
            }
        od
    } unless {
        d_step { killed[THREAD(w, t)] ->
            killed[THREAD(w, t)] = false; gone[THREAD(w, t)] = true;
            forget_request() }
    }
    od
}

/* ---- The keeper. ---- */

/*
 * Each turn begins with what the shared memory and the processes show, and remembers nothing. So the heir of a killed
 * keeper, which is the worker or the standby, goes on from anywhere. A lock, which the kernel drops at the holder's
 * death, makes sure that there is one keeper at most.
 */
proctype keeper() {
    bit dead;
    byte i;
end_watch:
    do
    /* Reaps the worker: all its threads have ended. */
#ifdef WOKEN_BEFORE_REAP
    :: d_step { place[current] == worker && (gone[THREAD(current, 0)] || gone[THREAD(current, 1)]) ->
#else
    :: d_step { place[current] == worker && both_gone(current) ->
#endif
            place[current] = vacant;
            for (i : 1 .. REQUESTS) {
                if
                :: executing_now[i] -> executing_now[i] = false; died_executing[i]++
                :: else
                fi
            }
            for (i : 0 .. LAST_RECORD) {
                if
                :: records[i].phase != idle && request[records[i].unique] == answered -> clear_record(i)
                :: else
                fi
            }
            i = 0 }
    /* Wakes the standby. */
    :: atomic { place[current] == vacant && place[1 - current] == standby -> dead = current }
        if
        :: d_step { place[1 - dead] == standby -> current = 1 - dead; place[1 - dead] = worker; dead = 0 }
        :: d_step { place[1 - dead] != standby -> dead = 0 }
        /* The keeper is killed here, and its heir begins anew. */
        :: d_step { keeper_deaths_left > 0 -> keeper_deaths_left--; dead = 0 }
        fi
    /* Starts a new standby. */
    :: d_step { place[1 - current] == vacant && both_gone(1 - current) ->
            gone[THREAD(1 - current, 0)] = false; gone[THREAD(1 - current, 1)] = false;
            serving[1 - current] = false; locked[1 - current] = false; bank[1 - current] = 0;
            place[1 - current] = standby }
    od
}

/* ---- The kills. A worker's threads do not end at the same moment: one may go on while the other is gone. ---- */

proctype killer() {
    bit victim;
    do
    :: atomic { worker_deaths_left > 0 && place[current] == worker && !gone[THREAD(current, 0)] &&
            !gone[THREAD(current, 1)] ->
            worker_deaths_left--;
            victim = current;
            if
            :: killed[THREAD(victim, 0)] = true
            :: killed[THREAD(victim, 1)] = true
            fi }
        if
        :: atomic { gone[THREAD(victim, 0)] -> killed[THREAD(victim, 1)] = true; victim = 0 }
        :: atomic { gone[THREAD(victim, 1)] -> killed[THREAD(victim, 0)] = true; victim = 0 }
        fi
    /* No more kills: whatever still waits then, waits for ever. */
    :: atomic { worker_deaths_left = 0; break }
    od
}

init {
    byte i;
    atomic {
        for (i : 0 .. LAST_RECORD) { records[i].phase = idle; records[i].result = OK }
        i = 0;
        place[0] = worker; serving[0] = true;
        gone[THREAD(1, 0)] = true; gone[THREAD(1, 1)] = true;
        run clients();
        run thread(0, 0); run thread(0, 1); run thread(1, 0); run thread(1, 1);
        run keeper();
#ifdef TWO_KEEPERS
        run keeper();
#endif
        run killer()
    }
}
