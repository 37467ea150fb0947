import TestSupport
import Testing

/// Tests with a real mount that judge by time, or load the machine so that others would.
///
/// They run one at a time.
@Suite(.serialized, .onOwnThread, .needsFUSE, .timeLimit(.minutes(10))) struct EndToEnd {}

/// Tests with a real mount whose outcome does not depend on time.
///
/// Three run at once.
@Suite(.onOwnThread, .atOnce(3), .needsFUSE, .timeLimit(.minutes(20))) struct ParallelEndToEnd {}
