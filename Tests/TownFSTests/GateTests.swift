import SystemCalls
import Testing

@Suite struct GateTests {
    @Test func thoseInsideGetTheirAnswerAndOthersAreTurnedAway() {
        let gate = Gate(width: 2, patience: .milliseconds(20))
        let answer: Int? = gate.pass { gate.pass { gate.pass { 3 } ?? -1 } }
        #expect(answer == -1, "the third waits in vain")
        let again: Int? = gate.pass { gate.pass { 2 } }
        #expect(again == 2, "who has left has made room")
    }

    @Test func whoWaitsComesInWhenThereIsRoom() throws {
        let gate = Gate(width: 1, patience: .seconds(20))
        let isInside = try Wakeup()
        let mayLeave = try Wakeup()
        let thread = try Thread(named: "inside") {
            _ = gate.pass { () -> Int? in
                isInside.raise()
                mayLeave.wait()
                return nil
            }
        }
        isInside.wait()
        let waiting = try Thread(named: "leaving") { mayLeave.raise() }
        let answer: Int? = gate.pass { 1 }
        #expect(answer == 1)
        thread.join()
        waiting.join()
    }
}
