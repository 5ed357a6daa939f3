//! The way to the cluster: `kubectl` as a process of its own. Whatever way of signing in to a cluster a person has, it knows it.

use std::process::Stdio;
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::process::{Child, Command};
use tokio::time::timeout;

/// How long one question may take.
const QUESTION_TIMEOUT: Duration = Duration::from_secs(30);
/// How long a way to a pod may take to open.
const FORWARD_TIMEOUT: Duration = Duration::from_secs(15);
/// How much of one answer is read.
const ANSWER_BYTES_MAX: u64 = 64 << 20;

/// What the cluster answered, or why it did not.
pub(crate) type Asked<T> = Result<T, Refusal>;

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// There is no such thing, or no such kind of thing.
    Missing(String),
    /// Whoever asks may not.
    Forbidden(String),
    /// Anything else: no kubectl, no cluster, no answer in time.
    Failed(String),
}

impl Refusal {
    /// What was said.
    pub(crate) fn why(&self) -> &str {
        match self {
            Self::Missing(why) | Self::Forbidden(why) | Self::Failed(why) => why,
        }
    }

    fn of(said: &str) -> Self {
        let mut lines = said.lines().filter(|line| !line.contains("memcache.go") && !line.starts_with("WARNING"));
        let why = lines.next_back().unwrap_or("kubectl ended without a word").trim().to_owned();
        if said.contains("(Forbidden)") || said.contains("forbidden: User") {
            Self::Forbidden(why)
        } else if said.contains("(NotFound)") || said.contains("the server doesn't have a resource type") {
            Self::Missing(why)
        } else {
            Self::Failed(why)
        }
    }
}

/// A cluster, as `kubectl` finds it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Kubectl {
    /// Arguments that choose the cluster.
    chosen: Vec<String>,
}

impl Kubectl {
    /// The cluster of this context in this file; kubectl's own choice where one is not given.
    pub(crate) fn new(kubeconfig: Option<&str>, context: Option<&str>) -> Self {
        let file = kubeconfig.map(|file| format!("--kubeconfig={file}"));
        let context = context.map(|context| format!("--context={context}"));
        Self { chosen: file.into_iter().chain(context).collect() }
    }

    /// A question that is answered with one JSON object.
    pub(crate) async fn asks(&self, arguments: &[&str]) -> Asked<Value> {
        let text = self.says(arguments, None).await?;
        serde_json::from_str(&text).map_err(|error| Refusal::Failed(format!("kubectl answered no JSON: {error}")))
    }

    /// The items of a list.
    pub(crate) async fn lists(&self, arguments: &[&str]) -> Asked<Vec<Value>> {
        let mut list = self.asks(&[&["get"], arguments, &["--output=json"]].concat()).await?;
        match list["items"].take() {
            Value::Array(items) => Ok(items),
            _ => Ok(vec![list]),
        }
    }

    /// What is answered to questions that are posted, in their order.
    pub(crate) async fn posts(&self, questions: &[Value]) -> Asked<Vec<Value>> {
        let list = serde_json::json!({ "apiVersion": "v1", "kind": "List", "items": questions });
        let text = self.says(&["create", "--filename=-", "--output=json"], Some(&list.to_string())).await?;
        let answers: Result<Vec<Value>, _> = serde_json::Deserializer::from_str(&text).into_iter().collect();
        let answers = answers.map_err(|error| Refusal::Failed(format!("kubectl answered no JSON: {error}")))?;
        // Several are printed one after the other, or as a list.
        Ok(answers
            .into_iter()
            .flat_map(|mut answer| match answer["items"].take() {
                Value::Array(items) => items,
                _ => vec![answer],
            })
            .collect())
    }

    /// The answer to a question as text.
    pub(crate) async fn says(&self, arguments: &[&str], input: Option<&str>) -> Asked<String> {
        let mut command = self.command(arguments);
        command.arg("--request-timeout=20s");
        command.stdin(if input.is_some() { Stdio::piped() } else { Stdio::null() });
        let asked = async {
            let mut process = command.spawn()?;
            if let (Some(input), Some(mut stdin)) = (input, process.stdin.take()) {
                stdin.write_all(input.as_bytes()).await?;
            }
            let (Some(stdout), Some(stderr)) = (process.stdout.take(), process.stderr.take()) else {
                return Err(std::io::Error::other("it has no output"));
            };
            let (mut answer, mut said) = (Vec::new(), Vec::new());
            let (mut stdout, mut stderr) = (stdout.take(ANSWER_BYTES_MAX), stderr.take(ANSWER_BYTES_MAX));
            tokio::try_join!(stdout.read_to_end(&mut answer), stderr.read_to_end(&mut said))?;
            Ok((process.wait().await?, answer, said))
        };
        let (status, answer, said) = timeout(QUESTION_TIMEOUT, asked)
            .await
            .map_err(|_| Refusal::Failed(format!("no answer in {QUESTION_TIMEOUT:?}")))?
            .map_err(|error| Refusal::Failed(format!("kubectl cannot be run: {error}")))?;
        if !status.success() {
            return Err(Refusal::of(&String::from_utf8_lossy(&said)));
        }
        String::from_utf8(answer).map_err(|_| Refusal::Failed("kubectl answered no text".into()))
    }

    /// Opens ways to ports of a pod, on the pod's loopback, where no sidecar stands between.
    pub(crate) async fn forwards(&self, namespace: &str, pod: &str, ports: &[u16]) -> Asked<Forward> {
        let (namespace, pod) = (format!("--namespace={namespace}"), format!("pod/{pod}"));
        let wanted: Vec<String> = ports.iter().map(|port| format!(":{port}")).collect();
        let mut arguments = vec!["port-forward", "--address=127.0.0.1", &namespace, &pod];
        arguments.extend(wanted.iter().map(String::as_str));
        let spawned = self.command(&arguments).stdin(Stdio::null()).spawn();
        let mut process = spawned.map_err(|error| Refusal::Failed(format!("kubectl cannot be run: {error}")))?;
        let (Some(stdout), Some(mut stderr)) = (process.stdout.take(), process.stderr.take()) else {
            return Err(Refusal::Failed("kubectl has no output".into()));
        };
        let mut lines = BufReader::new(stdout).lines();
        let opened = async {
            let mut open = Vec::new();
            while open.len() < ports.len() {
                let Ok(Some(line)) = lines.next_line().await else {
                    let mut said = String::new();
                    let _ = stderr.read_to_string(&mut said).await;
                    return Err(Refusal::of(&said));
                };
                open.extend(forwarded(&line));
            }
            Ok(open)
        };
        let open = timeout(FORWARD_TIMEOUT, opened)
            .await
            .map_err(|_| Refusal::Failed(format!("no way to {pod} in {FORWARD_TIMEOUT:?}")))??;
        // Both are kept open: kubectl writes a line for each connection.
        let rest = tokio::spawn(async move {
            tokio::join!(async { while let Ok(Some(_)) = lines.next_line().await {} }, async {
                let _ = tokio::io::copy(&mut stderr, &mut tokio::io::sink()).await;
            });
        });
        Ok(Forward { open, _process: process, rest })
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("kubectl");
        command.args(arguments).args(&self.chosen).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        command
    }
}

/// Open ways to ports of one pod; closed when dropped.
#[derive(Debug)]
pub(crate) struct Forward {
    /// The port here, and the pod's.
    open: Vec<(u16, u16)>,
    _process: Child,
    rest: tokio::task::JoinHandle<()>,
}

impl Forward {
    /// The port here that leads to `port` of the pod.
    pub(crate) fn here(&self, port: u16) -> Option<u16> {
        self.open.iter().find(|(_, there)| *there == port).map(|(here, _)| *here)
    }
}

impl Drop for Forward {
    fn drop(&mut self) {
        self.rest.abort();
    }
}

/// The ports in `Forwarding from 127.0.0.1:34567 -> 9464`.
fn forwarded(line: &str) -> Option<(u16, u16)> {
    let (here, there) = line.strip_prefix("Forwarding from 127.0.0.1:")?.split_once(" -> ")?;
    Some((here.parse().ok()?, there.trim().parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_kubectl_says_is_told_apart() {
        let forbidden =
            r#"Error from server (Forbidden): secrets is forbidden: User "bob" cannot list resource "secrets""#;
        assert_eq!(Refusal::of(forbidden), Refusal::Forbidden(forbidden.into()));
        assert!(matches!(Refusal::of("error: the server doesn't have a resource type \"foos\""), Refusal::Missing(_)));
        assert!(matches!(Refusal::of("Error from server (NotFound): namespaces \"x\" not found"), Refusal::Missing(_)));
        let away = "E1126 memcache.go:265] dial tcp\nThe connection to the server localhost:8080 was refused";
        assert_eq!(
            Refusal::of(away),
            Refusal::Failed("The connection to the server localhost:8080 was refused".into())
        );
    }

    #[test]
    fn the_ports_of_a_way_are_read() {
        assert_eq!(forwarded("Forwarding from 127.0.0.1:34567 -> 9464"), Some((34567, 9464)));
        assert_eq!(forwarded("Handling connection for 34567"), None);
    }
}
