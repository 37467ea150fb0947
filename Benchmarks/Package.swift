// swift-tools-version: 6.2
import PackageDescription

// A package of its own, so that building and reading pulsefs does not involve the benchmarks. It uses only the public
// library `Liveness` of the package that it lies in, and the program `pulsefs` from outside.

let argumentParser: Target.Dependency = .product(name: "ArgumentParser", package: "swift-argument-parser")
let system: Target.Dependency = .product(name: "SystemPackage", package: "swift-system")

let package = Package(
    name: "pulsefs-benchmarks",
    products: [.executable(name: "pulsefs-bench", targets: ["PulsefsBench"])],
    dependencies: [
        .package(name: "pulsefs", path: ".."),
        .package(url: "https://github.com/apple/swift-argument-parser", from: "1.8.2"),
        .package(url: "https://github.com/apple/swift-system", from: "1.8.1"),
    ],
    targets: [
        // C functions that Swift's Glibc module leaves out.
        .systemLibrary(name: "CGNU"),
        .executableTarget(
            name: "PulsefsBench",
            dependencies: [.product(name: "Liveness", package: "pulsefs"), "CGNU", argumentParser, system]),
        .testTarget(name: "PulsefsBenchTests", dependencies: ["PulsefsBench", argumentParser]),
    ],
    swiftLanguageModes: [.v6]
)
