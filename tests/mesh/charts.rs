//! Renders the charts with helm and reads what comes out.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

pub(crate) use flaghoist_mesh::{items, texts};
use flaghoist_tests::{skip, tool};
use serde_json::Value;

/// A release's name and namespace in every test that does not choose others.
pub(crate) const RELEASE: &str = "chat";
pub(crate) const NAMESPACE: &str = "talk";

/// One of the two charts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Chart {
    /// The mesh configuration by itself.
    Istio,
    /// The whole installation, the mesh configuration within it.
    Whole,
}

impl Chart {
    pub(crate) const ALL: [Self; 2] = [Self::Istio, Self::Whole];

    /// Where it is.
    pub(crate) fn folder(self) -> PathBuf {
        repository().join(match self {
            Self::Istio => "istio",
            Self::Whole => "charts/flaghoist",
        })
    }

    /// The name of a value of the mesh configuration.
    pub(crate) fn value(self, name: &str) -> String {
        match self {
            Self::Istio => name.to_owned(),
            Self::Whole => format!("istio.{name}"),
        }
    }
}

pub(crate) fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Helm, with which a test renders; none where it is missing and that may be.
#[derive(Clone, Debug)]
pub(crate) struct Helm(PathBuf);

impl Helm {
    /// Finds it, or says that `test` is left out.
    pub(crate) fn find(test: &str) -> Option<Self> {
        let Some(program) = tool("helm") else {
            skip(test, "helm is missing; tests/mesh/install gets it");
            return None;
        };
        Some(Self(program))
    }

    /// What `helm template` makes of a chart with these values: `NAME=VALUE`, or `@FILE` of the chart.
    #[track_caller]
    pub(crate) fn renders(&self, chart: Chart, values: &[String]) -> Vec<Value> {
        read(&self.text(chart, RELEASE, values))
    }

    /// The same under another release's name.
    #[track_caller]
    pub(crate) fn renders_as(&self, chart: Chart, release: &str, values: &[String]) -> Vec<Value> {
        read(&self.text(chart, release, values))
    }

    /// The same as text.
    #[track_caller]
    pub(crate) fn text(&self, chart: Chart, release: &str, values: &[String]) -> String {
        let output = self.template(chart, release, values);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "helm template {chart:?} {values:?}: {said}");
        String::from_utf8(output.stdout).expect("YAML is text")
    }

    /// Why helm refuses a chart with these values.
    #[track_caller]
    pub(crate) fn refuses(&self, chart: Chart, values: &[String]) -> String {
        let output = self.template(chart, RELEASE, values);
        assert!(!output.status.success(), "helm took {values:?}");
        String::from_utf8_lossy(&output.stderr).into_owned()
    }

    fn template(&self, chart: Chart, release: &str, values: &[String]) -> Output {
        let mut command = Command::new(&self.0);
        command.arg("template").arg(release).arg(chart.folder()).args(["--namespace", NAMESPACE]);
        command.args(["--kube-version", "1.33.0"]);
        for value in values {
            match value.strip_prefix('@') {
                Some(file) => command.arg("--values").arg(chart.folder().join(file)),
                None => command.args(["--set", value]),
            };
        }
        command.output().expect("helm starts")
    }

    /// What `helm lint` finds, if it finds anything.
    pub(crate) fn lint(&self, chart: Chart) -> Result<(), String> {
        let output = Command::new(&self.0).arg("lint").arg("--strict").arg(chart.folder()).output();
        let output = output.expect("helm starts");
        let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
        if output.status.success() { Ok(()) } else { Err(said.into_owned()) }
    }
}

/// Reads the resources of rendered YAML.
#[track_caller]
pub(crate) fn read(text: &str) -> Vec<Value> {
    let resources: Vec<Value> =
        serde_saphyr::from_multiple(text).unwrap_or_else(|error| panic!("helm rendered no YAML: {error}\n{text}"));
    resources.into_iter().filter(|resource| !resource.is_null()).collect()
}

/// The resources of a kind.
pub(crate) fn of_kind<'a>(resources: &'a [Value], kind: &str) -> Vec<&'a Value> {
    resources.iter().filter(|resource| resource["kind"] == kind).collect()
}

/// A resource's name.
pub(crate) fn name(resource: &Value) -> &str {
    resource["metadata"]["name"].as_str().unwrap_or_default()
}

#[test]
fn helm_lint_finds_nothing() {
    let Some(helm) = Helm::find("helm lint") else { return };
    for chart in Chart::ALL {
        helm.lint(chart).unwrap_or_else(|said| panic!("helm lint {chart:?}:\n{said}"));
    }
}

#[test]
fn a_value_that_does_not_exist_is_refused() {
    let Some(helm) = Helm::find("unknown values") else { return };
    for chart in Chart::ALL {
        for value in ["gatway.enabled=false", "gateway.kind=nginx", "send.canary.weight=101", "classes.once.attempts=3"]
        {
            let refusal = helm.refuses(chart, &[chart.value(value)]);
            assert!(refusal.contains("schema"), "{value} of {chart:?}: {refusal}");
        }
    }
}
