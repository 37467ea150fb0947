#ifndef PULSEFS_CHIREDIS_H
#define PULSEFS_CHIREDIS_H

#include <hiredis/hiredis.h>

// redisReplyObjectFunctions: the reader allocates whatever length an array announces, and later versions nest without
// end. These stand before the reader's own createArray and refuse; a null pointer is an error to the reader.
struct chiredis_limits {
    redisReplyObjectFunctions functions;
    const redisReplyObjectFunctions *original;
    // How many elements the arrays of the reply being read may still announce, all together.
    unsigned long long room;
};

// A length is an int up to hiredis 0.14, and a size_t since 1.0. A negative one becomes too large here.
#if HIREDIS_MAJOR >= 1
typedef size_t chiredis_length;
#else
typedef int chiredis_length;
#endif

static inline void *chiredis_create_array(const redisReadTask *task, chiredis_length length) {
    struct chiredis_limits *limits = (struct chiredis_limits *)task->privdata;
    int depth = 0;
    for (const redisReadTask *outer = task->parent; outer; outer = outer->parent) depth += 1;
    if (depth > 7 || (unsigned long long)length > limits->room) return 0;
    limits->room -= (unsigned long long)length;
    return limits->original->createArray(task, length);
}

// The limits belong to the caller, and must outlive the reader.
static inline redisReader *chiredis_create_reader(struct chiredis_limits *limits) {
    redisReader *reader = redisReaderCreate();
    if (!reader) return 0;
    limits->original = reader->fn;
    limits->functions = *reader->fn;
    limits->functions.createArray = chiredis_create_array;
    reader->fn = &limits->functions;
    reader->privdata = limits;
    return reader;
}

// The length of the string that the reader is in the midst of, or -1 if it awaits the end of a line: the task it is at
// is kept in a different place since hiredis 1.0. To be called when redisReaderGetReply has found no reply.
static inline long long chiredis_awaited_string(const redisReader *reader) {
    if (reader->ridx < 0 || !reader->buf) return -1;
#if HIREDIS_MAJOR >= 1
    const redisReadTask *task = reader->task[reader->ridx];
#else
    const redisReadTask *task = &reader->rstack[reader->ridx];
#endif
    if (task->type != REDIS_REPLY_STRING) return -1;
    long long length = 0;
    for (size_t at = reader->pos; at < reader->len; at += 1) {
        char digit = reader->buf[at];
        if (digit == '\r') return length;
        if (digit < '0' || digit > '9') return -1;
        if (length < 1ll << 50) length = length * 10 + (digit - '0');
    }
    return -1;
}

#endif
