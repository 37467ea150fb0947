/*
 * Model of the takeover: what becomes of requests when the process that serves a town is killed.
 *
 * mount-scripts/model checks this file with spin (https://spinroot.com). Spin runs the steps below in every possible
 * order, with a kill between any two of them, and reports the first order that breaks a promise:
 *
 *   - Every operation takes effect exactly once.                    The assertion in take_effect.
 *   - Every call gets exactly one answer, the right one.            The assertion in send_reply.
 *   - EIO goes only to a request that was in flight at two deaths
 *     and that no worker is known to have done.                     The same assertion; see RIGHT.
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
 * RECORDS_IN_PLACE (names): the successor does not copy the records, and its own requests overwrite them
 * WOKEN_BEFORE_REAP (names): the standby is woken while a thread of the dead worker still runs
 * DONE_AFTER_REPLY (touches): `done` is stored after the reply
 * NO_RECORDS (names): a resent request is run as new
 * RECORD_CLEARED_FIRST (names): the record becomes `idle` before its copy is valid
 * READ_BEFORE_RESEND (names): a thread of the successor reads before FUSE_NOTIFY_RESEND is written
 * EMPTIED_EARLY (names): the copies are dropped when one thread, not each, has read a request without bit 63
 * DONE_HIDDEN (names): a record in `executing` hides an older copy that is `done`
 * DEATHS_COUNTED_TWICE (names): a death while copying counts the death before it once more
 * NO_EXISTED (names): the record does not say whether the name existed before
 * EXISTED_ASKED_AGAIN (names): the second execution asks anew whether the name existed
 * TOUCH_DONE_LATE (touches): `done` of a touch is stored after the lock is released
 * TOUCH_SOUGHT_LATE (touches): the log is searched for a touch when its request is read, not while records are copied
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
bool in_hand[REQUESTS + 1];             /* read by the worker that is now in `current`, and not answered */
byte in_flight_at_death[REQUESTS + 1];  /* at how many deaths it was in the hand of the worker that died */
bool completed[REQUESTS + 1];           /* `done` was stored for it */

inline take_effect(u) {
    effects[u]++;
    assert(effects[u] == 1)
}

/* A client may get the answer r to its request u. */
#define RIGHT(u, r) ( \
    (r) == EIO -> in_flight_at_death[u] >= 2 && !completed[u] : ( \
    OPERATION(u) == create_old -> (r) == EEXIST : ( \
    OPERATION(u) == stat -> (r) == OK : \
    (r) == OK && effects[u] == 1)))

/* ---- The backing file system and the touches. Both outlive every process of ours. ---- */

bool new_exists;        /* the name that create_new makes and unlink_new removes */
byte length;            /* of the file that append writes to; the kernel asks for offset 0 */
byte last_touch;        /* unique of the last touch. The log keeps one per runtime id: the next one replaces it */

/* ---- Shared memory. ---- */

/* An operation record; each thread has one. The records stay where they are when another worker serves. */
typedef Record {
    byte unique;
    mtype:phase phase;
    mtype:errno result;     /* valid when done */
    bool existed;           /* whether the name existed before the operation began */
    byte deaths             /* at how many deaths before this execution the request was executing */
};
Record records[2];

/*
 * The records of dead workers whose requests may be resent. The program keeps a list and only appends to it. The model
 * keeps, for each unique, the sum of its entries: any done wins over executing, the highest count of deaths wins.
 */
typedef Inherited {
    mtype:phase phase;      /* idle: no entry with this unique */
    mtype:errno result;
    bool existed;
    byte deaths             /* at how many deaths the request was executing */
};
Inherited inherited[REQUESTS + 1];

inline empty_inherited() {
    for (i : 1 .. REQUESTS) {
        inherited[i].phase = idle; inherited[i].result = OK; inherited[i].existed = false; inherited[i].deaths = 0
    }
    i = 0
}

/* ---- Processes of ours. Two places, used by turns: while one worker serves, the other place has the standby. ---- */

mtype:place = { vacant, standby, worker };

mtype:place place[2] = vacant;
bit current;                    /* the place of the worker */
bool serving[2];                /* the worker has taken over: its other thread may serve, too */
bool killed[4], gone[4];        /* per thread: must end now; has ended */

/* Private memory of a worker. */
bool locked[2];                 /* lock of the liveness table */
bool read_unflagged[4];         /* per thread: has read a request without bit 63 since the takeover */

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

/* write(2) of a reply. The kernel knows the request by its unique with bit 63, and refuses any other with ENOENT. */
inline send_reply() {
    if
    :: request[u] == processing && resent[u] == flagged ->
        assert(RIGHT(u, result));
#ifdef EIO_NEVER
        assert(result != EIO);
#endif
        request[u] = answered;
        in_hand[u] = false;
        if
        :: u == 1 && result == EIO -> request[2] = answered     /* this client gives up */
        :: else
        fi
    :: else
    fi
}

/* ---- A worker's thread. ---- */

/* The successor, before it serves: the dead worker's records go to the inherited ones. */
inline take_over() {
    i = 0;
    do
#ifndef RECORDS_IN_PLACE
    :: atomic { i < 2 && records[i].phase != idle ->
#ifdef RECORD_CLEARED_FIRST
        u = records[i].unique; known = records[i].phase; result = records[i].result; records[i].phase = idle }
        atomic {
            inherited[u].phase = known; inherited[u].result = result; inherited[u].existed = records[i].existed;
            inherited[u].deaths = records[i].deaths + 1; u = 0; known = idle; result = OK }
#else
        inherit(records[i].unique) }
#endif
        /* A kill here: the next successor inherits the same record once more, to the same effect. */
        d_step { clear_record(i); i++ }
#endif
    :: atomic { i < 2 && records[i].phase == idle -> i++ }
#ifdef RECORDS_IN_PLACE
    :: atomic { i < 2 && records[i].phase != idle -> i++ }
#endif
    :: atomic { i == 2 -> i = 0; break }
    od;
#ifdef READ_BEFORE_RESEND
    serving[w] = true;
#endif
    notify_resend();
    serving[w] = true
}

/* Appends the record to the inherited ones. The entry's last store, which makes it valid, comes after all others. */
inline inherit(n) {
    if
    :: records[i].phase == done ->
        inherited[n].phase = done;
        inherited[n].result = records[i].result
#ifndef TOUCH_SOUGHT_LATE
    /*
     * The touch is in the log, so it happened. This must be found out now, while no thread serves: the next touch
     * of the same id replaces it in the log, and the kernel holds no lock over it.
     */
    :: records[i].phase == executing && OPERATION(n) == touch && last_touch == n ->
        inherited[n].phase = done;
        inherited[n].result = OK
#endif
    :: else ->
        if
#ifdef DONE_HIDDEN
        :: true -> inherited[n].phase = executing
#else
        :: inherited[n].phase == idle -> inherited[n].phase = executing
#endif
        :: else
        fi
    fi;
    inherited[n].existed = records[i].existed;
#ifdef DEATHS_COUNTED_TWICE
    inherited[n].deaths++
#else
    if
    /* Not a count of its own: a successor that is killed while it copies would count one death twice. */
    :: records[i].deaths + 1 > inherited[n].deaths -> inherited[n].deaths = records[i].deaths + 1
    :: else
    fi
#endif
}

/* Fields of an idle record are never read; zeroed, equal states look equal to spin. */
inline clear_record(n) {
    records[n].phase = idle; records[n].unique = 0; records[n].result = OK;
    records[n].existed = false; records[n].deaths = 0
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
    in_hand[u] = true;
    flagged = resent[u];
    /*
     * Resent requests come first. A thread that reads a request without the flag has none in hand that it read before,
     * and no thread will read another. When each thread has read one, nothing that was inherited can be resent.
     */
    if
    :: !flagged && !read_unflagged[THREAD(w, t)] ->
        read_unflagged[THREAD(w, t)] = true;
        if
#ifdef EMPTIED_EARLY
        :: true -> empty_inherited()
#else
        :: read_unflagged[THREAD(w, 1 - t)] -> empty_inherited()
#endif
        :: else
        fi
    :: else
    fi
}

/* Finds what a dead worker knew of the request: `known`, and with it the result, existed, deaths. */
inline look_up() {
    known = idle;
#ifndef NO_RECORDS
    if
#ifdef RECORDS_IN_PLACE
    :: flagged && records[0].unique == u && records[0].phase != idle ->
        known = records[0].phase; result = records[0].result; existed = records[0].existed
    :: flagged && records[1].unique == u && records[1].phase != idle ->
        known = records[1].phase; result = records[1].result; existed = records[1].existed
#else
    :: flagged && inherited[u].phase != idle ->
        known = inherited[u].phase; result = inherited[u].result;
        existed = inherited[u].existed; deaths = inherited[u].deaths
#endif
    :: else
    fi
#endif
}

#define name_exists(u) (OPERATION(u) == create_old || \
    ((OPERATION(u) == create_new || OPERATION(u) == unlink_new) && new_exists))

/* Stores the record, before anything of the request but its header is decoded. */
inline begin_executing() {
    records[t].unique = u;
    records[t].deaths = deaths;
#ifdef NO_EXISTED
    records[t].existed = (OPERATION(u) == unlink_new);
#else
#ifdef EXISTED_ASKED_AGAIN
    records[t].existed = name_exists(u);
#else
    /* The first execution may have made or removed the name: what it stored counts. */
    records[t].existed = (known == executing -> existed : name_exists(u));
#endif
#endif
    records[t].result = OK;
    records[t].phase = executing
}

inline store_done() {
#ifdef DONE_AFTER_REPLY
    skip
#else
    d_step { records[t].result = result; records[t].phase = done; completed[u] = true }
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
        :: else -> result = (known == executing && !records[t].existed -> OK : EEXIST)
        fi };
        store_done()
    :: d_step { OPERATION(u) == unlink_new ->
        if
        :: new_exists -> new_exists = false; take_effect(u); result = OK
        :: else -> result = (known == executing && records[t].existed -> OK : ENOENT)
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
    u = 0; flagged = false; known = idle; result = OK; existed = false; deaths = 0; i = 0
}

proctype thread(bit w, t) {
    byte u, i, deaths;
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
                :: known == done -> begin_executing(); result = inherited[u].result
#else
                :: known == done -> skip
#endif
                :: known == executing && deaths >= 2 -> result = EIO
                :: else -> begin_executing()
                fi
            }
            if
            :: known != done && records[t].phase == executing && records[t].unique == u -> execute()
            :: else
            fi;
            d_step { send_reply(); }
#ifdef DONE_AFTER_REPLY
            d_step { records[t].result = result; records[t].phase = done }
#endif
            /* A kill here: answered, so it is not resent, whatever its record says. */
            d_step {
                if
                :: records[t].unique == u -> clear_record(t)
                :: else
                fi;
                forget_request()
            }
        od
    } unless {
        d_step { killed[THREAD(w, t)] ->
            killed[THREAD(w, t)] = false; gone[THREAD(w, t)] = true; read_unflagged[THREAD(w, t)] = false;
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
                :: in_hand[i] -> in_hand[i] = false; in_flight_at_death[i]++
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
            serving[1 - current] = false; locked[1 - current] = false;
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
        for (i : 1 .. REQUESTS) { inherited[i].phase = idle; inherited[i].result = OK }
        i = 0;
        records[0].phase = idle; records[0].result = OK;
        records[1].phase = idle; records[1].result = OK;
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
