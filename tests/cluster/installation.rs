//! One installation of the chart, in a namespace of its own.

use std::path::Path;

use serde_json::Value;

use crate::images::Images;
use crate::programs::{get, helm, kubectl, kubectl_reads};

/// The release's name in every namespace.
pub(crate) const RELEASE: &str = "chat";

/// The services, each with a Service and an account of the name `chat-<service>`.
pub(crate) const SERVICES: [&str; 4] = ["auth", "login", "receiver", "send"];

/// What marks a namespace as made by these tests.
const LABEL: &str = "flaghoist.dev/made-by=cluster-test";

/// An installation and its namespace.
#[derive(Clone, Debug)]
pub(crate) struct Installation {
    pub(crate) namespace: String,
    images: Images,
    /// What is said to helm in each `install` and `upgrade`.
    values: Vec<String>,
}

impl Installation {
    /// Makes a namespace, which enforces the restricted profile where the mesh lets it, and installs the chart with these values.
    pub(crate) async fn install(name: &str, images: &Images, values: &[&str]) -> Result<Self, String> {
        // Never the same twice: istiod keeps the keys of an issuer for 20 minutes, and a new installation has others.
        let namespace = format!("flaghoist-test-{name}-{}", &flaghoist_tests::unique()[..6]);
        kubectl(&["create", "namespace", &namespace]).await?;
        kubectl(&["label", "namespace", &namespace, LABEL]).await?;
        if restrictable().await? {
            kubectl(&["label", "namespace", &namespace, "pod-security.kubernetes.io/enforce=restricted"]).await?;
        }
        let values = values.iter().map(|&value| value.to_owned()).collect();
        let installation = Self { namespace, images: images.clone(), values };
        installation.prepare().await?;
        installation.helm("install", &[]).await?;
        Ok(installation)
    }

    /// Changes values; what is said here is not remembered.
    pub(crate) async fn upgrade(&self, values: &[&str]) -> Result<(), String> {
        self.helm("upgrade", values).await
    }

    /// The same with another image of flaghoist.
    pub(crate) fn with_image(&self, flaghoist: &str) -> Self {
        let images = Images { flaghoist: flaghoist.to_owned(), ..self.images.clone() };
        Self { images, ..self.clone() }
    }

    /// Uninstalls the chart; what it leaves stays in the namespace.
    pub(crate) async fn uninstall(&self) -> Result<(), String> {
        helm(&["uninstall", RELEASE, "--namespace", &self.namespace, "--wait", "--timeout", "5m"]).await.map(drop)
    }

    /// Installs the chart once more.
    pub(crate) async fn install_again(&self) -> Result<(), String> {
        self.helm("install", &[]).await
    }

    /// The passwords of the databases, if it has databases.
    async fn prepare(&self) -> Result<(), String> {
        let password = self.values.iter().find_map(|value| value.strip_prefix("test.password="));
        let Some(password) = password else { return Ok(()) };
        let literals: Vec<String> =
            SERVICES.iter().map(|s| format!("--from-literal={s}-password={password}")).collect();
        let mut words = vec!["create", "secret", "generic", "flaghoist-postgresql", "-n", &self.namespace];
        words.extend(literals.iter().map(String::as_str));
        kubectl(&words).await.map(drop)
    }

    async fn helm(&self, verb: &str, more: &[&str]) -> Result<(), String> {
        let (repository, tag) = self.images.parts();
        let image = [format!("image.repository={repository}"), format!("image.tag={tag}")];
        let chart = Path::new("charts/flaghoist").to_string_lossy().into_owned();
        let mut words = vec![verb, RELEASE, &chart, "--namespace", &self.namespace, "--wait", "--timeout", "5m"];
        let said = self.values.iter().map(String::as_str).filter(|value| !value.starts_with("test."));
        for value in image.iter().map(String::as_str).chain(said).chain(more.iter().copied()) {
            words.extend(["--set", value]);
        }
        // What only this cluster needs, such as `--set networkPolicy.enabled=false`.
        let own = std::env::var("FLAGHOIST_TEST_HELM").unwrap_or_default();
        words.extend(own.split_whitespace());
        if let Err(error) = helm(&words).await {
            let pods = kubectl(&["get", "pods,events", "-n", &self.namespace]).await.unwrap_or_default();
            return Err(format!("{error}\n{pods}"));
        }
        Ok(())
    }

    /// Another namespace, in which pods of ours may be.
    pub(crate) fn elsewhere(&self, namespace: &str) -> Self {
        Self { namespace: namespace.to_owned(), ..self.clone() }
    }

    /// `kubectl` in the namespace.
    pub(crate) async fn kubectl(&self, arguments: &[&str]) -> Result<String, String> {
        kubectl(&[&["--namespace", self.namespace.as_str()], arguments].concat()).await
    }

    /// `kubectl get … -o json` in the namespace.
    pub(crate) async fn get(&self, arguments: &[&str]) -> Result<Value, String> {
        get(&[&["--namespace", self.namespace.as_str()], arguments].concat()).await
    }

    /// `kubectl apply` of a document in the namespace.
    pub(crate) async fn apply(&self, document: &str) -> Result<(), String> {
        kubectl_reads(&["--namespace", &self.namespace, "apply", "-f", "-"], document).await.map(drop)
    }

    /// A service's pods that run and are not told to stop, each as `pod/NAME`.
    pub(crate) async fn pods(&self, service: &str) -> Result<Vec<String>, String> {
        let selector = format!("app.kubernetes.io/instance={RELEASE},app.kubernetes.io/component={service}");
        let found = self.get(&["pods", "-l", &selector, "--field-selector=status.phase=Running"]).await?;
        let pods = found["items"].as_array().into_iter().flatten().map(|pod| &pod["metadata"]);
        let staying = pods.filter(|pod| pod["deletionTimestamp"].is_null());
        Ok(staying.filter_map(|pod| Some(format!("pod/{}", pod["name"].as_str()?))).collect())
    }

    /// Removes it with all it left.
    pub(crate) async fn remove(self) -> Result<(), String> {
        remove(&self.namespace).await
    }
}

/// Whether pods with sidecars can run under the restricted profile: the mesh has its network plugin.
pub(crate) async fn restrictable() -> Result<bool, String> {
    let plugins = get(&["daemonsets", "--all-namespaces", "-l", "k8s-app=istio-cni-node"]).await?;
    Ok(plugins["items"].as_array().is_some_and(|items| !items.is_empty()))
}

/// Removes a namespace, and waits until it is gone.
pub(crate) async fn remove(namespace: &str) -> Result<(), String> {
    kubectl(&["delete", "namespace", namespace, "--ignore-not-found", "--timeout=180s"]).await.map(drop)
}

/// Removes every namespace that these tests have made.
pub(crate) async fn remove_all() -> Result<(), String> {
    kubectl(&["delete", "namespace", "-l", LABEL, "--ignore-not-found", "--timeout=240s"]).await.map(drop)
}
