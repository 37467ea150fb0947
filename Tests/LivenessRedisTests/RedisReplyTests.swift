import Testing

@testable import LivenessRedis
