//! Finds the programs that look at charts and meshes: `helm`, `istioctl`, `kubectl`.

use std::path::{Path, PathBuf};

/// Where a program is: on the `PATH`, where `tests/mesh/install` puts it, or among those that a cluster was built with.
pub fn tool(program: &str) -> Option<PathBuf> {
    let home = |variable: &str| std::env::var_os(variable).map(PathBuf::from);
    let cluster = home("CLUSTER_HOME")
        .or_else(|| Some(home("XDG_CACHE_HOME").or_else(|| Some(home("HOME")?.join(".cache")))?.join("cluster")));
    let built = [
        Some(Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join("target/tools")),
        cluster.map(|cluster| cluster.join("bin")),
    ];
    let built = built.into_iter().flatten().map(|folder| folder.join(program)).find(|candidate| candidate.is_file());
    flaghoist_backends::installed(program).or(built)
}
