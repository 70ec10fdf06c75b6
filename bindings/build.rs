//! Refuses to build for a Python without the GIL, in words: pyo3 would build it, and nothing of it is tested there. Leads the
//! calls of the allocator to `src/allocator.rs`.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    let flags = &pyo3_build_config::get().build_flags().0;
    if flags.contains(&pyo3_build_config::BuildFlag::Py_GIL_DISABLED) {
        println!(
            "cargo::error=cloaca does not support free-threaded Python (a build without the GIL): its native module was \
             not tested without the GIL. Build it for the ordinary Python, 3.10 or newer"
        );
    }
    if std::env::var_os("CARGO_CFG_TARGET_OS").is_some_and(|os| os == "linux") {
        for function in ["malloc", "calloc", "realloc", "posix_memalign", "free"] {
            println!("cargo::rustc-cdylib-link-arg=-Wl,--wrap={function}");
        }
    }
}
