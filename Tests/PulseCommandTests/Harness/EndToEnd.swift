import TestSupport
import Testing

/// Tests with a real mount that judge by time, or load the machine.
///
/// They have the machine to themselves.
@Suite(.serialized, .onOwnThread, .needsFUSE, .timeLimit(.minutes(5))) struct EndToEnd {}

/// Tests with a real mount whose outcome does not depend on time.
///
/// `mount-scripts/test` runs several of these suites at once, each in a process of its own: a descriptor of a signal file
/// is flushed when a program that another thread has just forked closes its copy, so one process runs one test at a time.
@Suite(.serialized, .onOwnThread, .needsFUSE, .timeLimit(.minutes(5))) struct ParallelEndToEnd {}
