//! The two images that the pods need: flaghoist, and the probe. They are built here, without a Docker engine, and handed to a command
//! that puts them where the cluster finds them; or they are in a registry already. Flaghoist's has a second name, to which it is upgraded.
//!
//! - `FLAGHOIST_TEST_LOAD_IMAGE`: a command that gets the path of an image archive as its last argument, such as `kind load
//!   image-archive`, `minikube image load` or `ctr -n k8s.io images import`.
//! - `FLAGHOIST_TEST_IMAGE`, `FLAGHOIST_TEST_PROBE_IMAGE`: the names of images that are not to be built; `FLAGHOIST_TEST_NEXT_IMAGE` is then
//!   another name, of the first one or of a newer one in the same repository.

use std::process::Stdio;

use aws_lc_rs::digest;

use crate::programs::{command, repository, run};

/// The names under which the pods know them.
#[derive(Clone, Debug)]
pub(crate) struct Images {
    pub(crate) flaghoist: String,
    /// What is upgraded to.
    pub(crate) next: String,
    pub(crate) probe: String,
}

impl Images {
    /// Builds what is not there, and loads it.
    pub(crate) async fn make() -> Result<Self, String> {
        let flaghoist =
            image("FLAGHOIST_TEST_IMAGE", "flaghoist", "flaghoist", "FLAGHOIST_BIN", &["", "-next"]).await?;
        let probe = image("FLAGHOIST_TEST_PROBE_IMAGE", "flaghoist-probe", "probe", "FLAGHOIST_TEST_PROBE_BIN", &[""]);
        let probe = probe.await?;
        let next = match std::env::var("FLAGHOIST_TEST_NEXT_IMAGE") {
            Ok(name) => name,
            Err(_) if std::env::var_os("FLAGHOIST_TEST_IMAGE").is_some() => {
                return Err("name a second image that is in the registry by FLAGHOIST_TEST_NEXT_IMAGE".into());
            }
            Err(_) => format!("{flaghoist}-next"),
        };
        Ok(Self { flaghoist, next, probe })
    }

    /// The repository and the tag of flaghoist's, as the chart wants them.
    pub(crate) fn parts(&self) -> (&str, &str) {
        parts(&self.flaghoist)
    }

    /// Those of the one that is upgraded to.
    pub(crate) fn next_parts(&self) -> (&str, &str) {
        parts(&self.next)
    }
}

fn parts(name: &str) -> (&str, &str) {
    let slash = name.rfind('/').unwrap_or(0);
    match name[slash..].rfind(':') {
        Some(colon) => (&name[..slash + colon], &name[slash + colon + 1..]),
        None => (name, "latest"),
    }
}

/// The name of a program's image, which is there under that name with each of these endings.
async fn image(given: &str, package: &str, program: &str, binary: &str, endings: &[&str]) -> Result<String, String> {
    if let Ok(name) = std::env::var(given) {
        return Ok(name);
    }
    let load = std::env::var("FLAGHOIST_TEST_LOAD_IMAGE").map_err(|_| {
        format!(
            "say how an image gets into this cluster, by FLAGHOIST_TEST_LOAD_IMAGE=COMMAND, which is given an archive \
             (\"kind load image-archive\"), or name one that is in a registry by {given}"
        )
    })?;
    let path = match std::env::var(binary) {
        Ok(path) => path,
        Err(_) => build(package, program).await?,
    };
    let content = std::fs::read(&path).map_err(|error| format!("{path}: {error}"))?;
    let digest = digest::digest(&digest::SHA256, &content);
    let tag: String = digest.as_ref().iter().take(6).map(|byte| format!("{byte:02x}")).collect();
    let name = format!("flaghoist.test/{program}:{tag}");
    let folder = tempfile::Builder::new().prefix("flaghoist-image-").tempdir().map_err(|error| error.to_string())?;
    // The program's name in the image is that of its file.
    let named = folder.path().join(program);
    std::fs::copy(&path, &named).map_err(|error| format!("{path}: {error}"))?;
    let archive = folder.path().join("image.tar");
    let (named, archive) = (named.to_string_lossy(), archive.to_string_lossy());
    let script = repository().join("services/flaghoist/image-tar");
    for ending in endings {
        run(&script.to_string_lossy(), &[&archive, &format!("{name}{ending}"), &named], None).await?;
        run("sh", &["-c", &format!("{load} \"$0\""), &archive], None).await?;
    }
    Ok(name)
}

/// Builds a static program in the profile of the running test, and says where it is.
async fn build(package: &str, program: &str) -> Result<String, String> {
    let target = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
    let mut cargo = command("cargo")?;
    cargo.args(["build", "--locked", "--quiet", "--package", package, "--bin", program, "--target", &target]);
    cargo.args(["--message-format=json-render-diagnostics"]).env("RUSTFLAGS", "-C target-feature=+crt-static");
    if !cfg!(debug_assertions) {
        cargo.arg("--release");
    }
    let output = cargo.stderr(Stdio::inherit()).output().await.map_err(|error| format!("cargo: {error}"))?;
    let said = String::from_utf8_lossy(&output.stdout);
    let built = said.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
    let mut built = built.filter(|message| message["target"]["name"] == program);
    let path = built.find_map(|message| message["executable"].as_str().map(str::to_owned));
    path.filter(|_| output.status.success())
        .ok_or_else(|| format!("{package} does not build: see cargo's messages above"))
}
