// swift-tools-version: 6.2
import PackageDescription

// docs/ARCHITECTURE.md, "Targets", explains which target may import which. The lists below enforce it.

let argumentParser: Target.Dependency = .product(name: "ArgumentParser", package: "swift-argument-parser")
let logging: Target.Dependency = .product(name: "Logging", package: "swift-log")
let collections: [Target.Dependency] = [
    .product(name: "DequeModule", package: "swift-collections"),
    .product(name: "HeapModule", package: "swift-collections"),
]
let system: Target.Dependency = .product(name: "SystemPackage", package: "swift-system")

let package = Package(
    name: "pulsefs",
    products: [
        .executable(name: "pulsefs", targets: ["PulseCommand"]),
        .library(name: "Fuse", targets: ["Fuse"]),
        .library(name: "Liveness", targets: ["Liveness"]),
    ],
    dependencies: [
        .package(url: "https://github.com/apple/swift-argument-parser", from: "1.8.2"),
        .package(url: "https://github.com/apple/swift-collections", from: "1.6.0"),
        .package(url: "https://github.com/apple/swift-log", from: "1.16.2"),
        .package(url: "https://github.com/apple/swift-system", from: "1.8.1"),
    ],
    targets: [
        // System libraries: a module map and a shim header each.
        .systemLibrary(name: "CFuse", pkgConfig: "fuse3", providers: [.apt(["libfuse3-dev"])]),
        .systemLibrary(name: "CLinux"),
        // Without pkg-config: its -D_FILE_OFFSET_BITS=64 is not passed on by the package manager.
        .systemLibrary(name: "CHiredis", providers: [.apt(["libhiredis-dev"])]),
        .systemLibrary(name: "COpenSSL", pkgConfig: "openssl", providers: [.apt(["libssl-dev"])]),

        // One Swift type for each system facility.
        .target(name: "Linux", dependencies: ["CLinux", system]),

        // The FUSE protocol. Knows nothing of liveness.
        .target(
            name: "Fuse", dependencies: ["CFuse", "CLinux", "Linux", system] + collections, exclude: ["README.md"]),

        // The liveness table, identities and documents. No I/O; time is passed in.
        .target(name: "Liveness", dependencies: collections),

        // The liveness store in Redis, and the mirror that keeps it up to date.
        .target(
            name: "LivenessRedis",
            dependencies: ["Liveness", "CHiredis", "COpenSSL", "CLinux", "Linux", system, logging]),

        // The town: passthrough, nodes, signal files, `.pulse`.
        .target(name: "TownFS", dependencies: ["Fuse", "Liveness", "Linux", "CLinux", system, logging]),

        // Keeper and worker: the processes of a mounted town.
        .target(
            name: "Daemon",
            dependencies: [
                "Fuse", "Liveness", "LivenessRedis", "Linux", "TownFS", "CLinux", argumentParser, system, logging,
            ]),

        // The `pulsefs` program: the command line.
        .executableTarget(
            name: "PulseCommand",
            dependencies: ["Daemon", "Fuse", "Liveness", "Linux", "TownFS", "CLinux", argumentParser, system]),

        // For the parity tests: system calls past glibc.
        .systemLibrary(name: "CSystemCall", path: "Tests/CSystemCall"),

        // What test targets share: clocks, seeded randomness, temporary directories, Redis servers, traits.
        .target(name: "TestSupport", dependencies: ["Liveness", "CLinux", system], path: "Tests/TestSupport"),

        .testTarget(name: "LinuxTests", dependencies: ["Linux", "CLinux", system]),
        .testTarget(name: "FuseTests", dependencies: ["Fuse", "TestSupport", "CFuse", "CLinux", "Linux", system]),
        .testTarget(name: "LivenessTests", dependencies: ["Liveness", "TestSupport"]),

        .testTarget(
            name: "LivenessRedisTests",
            dependencies: [
                "LivenessRedis", "Liveness", "TestSupport", "Linux", "CLinux", system, logging,
            ]),
        .testTarget(
            name: "TownFSTests",
            dependencies: ["TownFS", "Fuse", "Liveness", "TestSupport", "Linux", "CLinux", system, logging]),
        .testTarget(
            name: "PulseCommandTests",
            dependencies: ["PulseCommand", "Daemon", "TownFS", "TestSupport", "Linux", "CLinux", "CSystemCall", system]),
    ],
    swiftLanguageModes: [.v6]
)

// The sanitizer run does not build what it does not run: mount-scripts/test.
if Context.environment["PULSEFS_SANITIZE"] != nil {
    package.products.removeAll { $0.name == "pulsefs" }
    package.targets.removeAll { ["PulseCommand", "PulseCommandTests", "CSystemCall"].contains($0.name) }
}
