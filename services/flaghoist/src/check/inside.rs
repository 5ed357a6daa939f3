//! What the pods say of themselves: readiness, figures and clock of the service, and how its sidecar gets on with istiod. Port 9464 has no
//! rule in the mesh, so it is asked on the pod's own loopback, where no sidecar stands between.

use std::time::{Duration, SystemTime};

use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::body::Bytes;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::kubectl::{Asked, Kubectl, Refusal};
use super::report::Group;
use super::sight::{Installed, Sight, name};

/// Metrics, liveness and readiness.
const OPERATORS_PORT: u16 = 9464;
/// Envoy's own page.
const ENVOY_PORT: u16 = 15000;
/// How long one answer may take.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);
/// How large one may be.
const ANSWER_BYTES_MAX: usize = 8 << 20;
/// How far clocks may be apart before it is said, and before it does harm: tokens live for 300 seconds.
const CLOCK_NOTED: Duration = Duration::from_secs(2);
const CLOCK_WRONG: Duration = Duration::from_secs(30);
/// How late the signing key may be replaced; the alert of the chart is the same.
const ROTATION_LATE: Duration = Duration::from_secs(3600);

/// What one pod answered.
#[derive(Clone, Debug, Default)]
pub(crate) struct Answers {
    /// What it waits for; nothing when it is ready.
    pub(crate) waiting_for: Option<String>,
    /// Its figures, as Prometheus reads them.
    pub(crate) metrics: String,
    /// How far its clock is ahead of the one here, in seconds, at least; negative when it is behind.
    pub(crate) clock_ahead: i64,
    /// The sidecar's figures; none without one.
    pub(crate) sidecar: Option<Asked<String>>,
}

/// Asks one pod.
pub(crate) async fn ask(kubectl: &Kubectl, namespace: &str, pod: &str, sidecar: bool) -> Asked<Answers> {
    let ports: &[u16] = if sidecar { &[OPERATORS_PORT, ENVOY_PORT] } else { &[OPERATORS_PORT] };
    let forward = kubectl.forwards(namespace, pod, ports).await?;
    let to = |port| forward.here(port).ok_or_else(|| Refusal::Failed(format!("no way to port {port}")));
    let began = SystemTime::now();
    let ready = get(to(OPERATORS_PORT)?, "/readyz").await?;
    let ended = SystemTime::now();
    let metrics = get(to(OPERATORS_PORT)?, "/metrics").await?;
    let sidecar = if sidecar {
        let filter = "/stats?filter=(update_rejected%7Cconnected_state)$";
        Some(match to(ENVOY_PORT) {
            Ok(port) => match get(port, filter).await {
                Ok(answer) if answer.status == 200 => Ok(answer.body),
                Ok(answer) => Err(Refusal::Failed(format!("its page answers {}", answer.status))),
                Err(refusal) => Err(refusal),
            },
            Err(refusal) => Err(refusal),
        })
    } else {
        None
    };
    let waits = ready.status != 200;
    let waiting_for = waits.then(|| ready.body.trim().trim_start_matches("waiting for ").to_owned());
    let clock_ahead = ready.date.map_or(0, |date| ahead(date, began, ended));
    Ok(Answers { waiting_for, metrics: metrics.body, clock_ahead, sidecar })
}

/// How far a clock is ahead at least, that said `date`, cut to the second, at some time between `began` and `ended` of this clock.
fn ahead(date: SystemTime, began: SystemTime, ended: SystemTime) -> i64 {
    let seconds = |duration: Duration| i64::try_from(duration.as_secs()).unwrap_or(i64::MAX);
    if let Ok(before) = date.duration_since(ended) {
        return seconds(before);
    }
    let latest = date + Duration::from_secs(1);
    began.duration_since(latest).map_or(0, |behind| -seconds(behind))
}

struct Answer {
    status: u16,
    date: Option<SystemTime>,
    body: String,
}

async fn get(port: u16, path: &str) -> Asked<Answer> {
    let asked = async {
        let stream = TcpStream::connect(("127.0.0.1", port)).await.map_err(|error| error.to_string())?;
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(|error| error.to_string())?;
        let connection = tokio::spawn(connection);
        let request = hyper::Request::get(path).header(hyper::header::HOST, "localhost").body(Empty::<Bytes>::new());
        let answer = sender
            .send_request(request.map_err(|error| error.to_string())?)
            .await
            .map_err(|error| error.to_string())?;
        let status = answer.status().as_u16();
        let date = answer.headers().get(hyper::header::DATE).and_then(|date| date.to_str().ok());
        let date = date.and_then(|date| httpdate::parse_http_date(date).ok());
        let body =
            Limited::new(answer.into_body(), ANSWER_BYTES_MAX).collect().await.map_err(|error| error.to_string())?;
        connection.abort();
        let body = String::from_utf8_lossy(&body.to_bytes()).into_owned();
        Ok(Answer { status, date, body })
    };
    let answer =
        timeout(ANSWER_TIMEOUT, asked).await.unwrap_or_else(|_| Err(format!("no answer in {ANSWER_TIMEOUT:?}")));
    answer.map_err(|why: String| Refusal::Failed(format!("GET {path}: {why}")))
}

/// Judges what the pods of a release answered.
pub(crate) fn judge(sight: &Sight, installed: &Installed<'_>) -> Group {
    let mut group = Group::new("what the pods say");
    let asked = |service: &'static str| {
        let pods = installed.part(service).into_iter().flat_map(|part| &part.pods);
        pods.filter_map(move |pod| Some((service, name(pod), sight.answers.get(name(pod))?)))
    };
    let all: Vec<(&str, &str, &Asked<Answers>)> =
        flaghoist_mesh::served::SERVICES.into_iter().flat_map(asked).collect();
    let silent = all.iter().filter_map(|(_, pod, answer)| Some(format!("{pod}: {}", answer.as_ref().err()?.why())));
    let mut silent: Vec<String> = silent.collect();
    if all.is_empty() {
        silent.push("no pod runs".into());
    }
    group.should(
        "each pod can be asked",
        silent,
        "it is done by `kubectl port-forward`, for which you need the right to create pods/portforward",
    );
    let answers: Vec<(&str, &str, &Answers)> =
        all.iter().filter_map(|(service, pod, answer)| Some((*service, *pod, answer.as_ref().ok()?))).collect();
    if answers.is_empty() {
        return group;
    }
    let waiting =
        answers.iter().filter_map(|(service, pod, answer)| Some((service, pod, answer.waiting_for.as_deref()?)));
    group.must(
        "stores are reached, migrations are done, keys are known",
        waiting.map(|(service, pod, what)| format!("{pod} waits for {what}{}", meant(service, what))).collect(),
        format!("kubectl -n {} logs POD -c SERVICE says why; is the way there open (egress, firewall), and is the password right?", sight.name),
    );
    let peers = answers.iter().flat_map(|(_, pod, answer)| {
        let away = figures(&answer.metrics, "flaghoist_peer_reachable").into_iter().filter(|(_, value)| *value == 0.0);
        away.map(move |(labels, _)| {
            format!("the last call of {pod} did not reach {}", quoted(labels, "peer").unwrap_or("another service"))
        })
    });
    group.must(
        "the services reach one another",
        peers.collect(),
        "are the other's pods ready, does a policy refuse the caller, does the firewall let it through?",
    );
    let bus = answers
        .iter()
        .filter(|(_, _, answer)| figures(&answer.metrics, "flaghoist_bus_up").iter().any(|(_, up)| *up == 0.0));
    group.must(
        "the bus is reached, where there is one",
        bus.map(|(_, pod, _)| format!("{pod} has no connection to NATS")).collect(),
        "deliveries between pods are up to 5 seconds late until it is back: is NATS up, and istio.egress.nats right?",
    );
    keys(&mut group, sight.now, &answers);
    clocks(&mut group, &answers);
    if installed.meshed {
        configured(&mut group, &answers);
    }
    group
}

/// What a name on the page of readiness means where it is not said by itself.
fn meant(service: &str, what: &str) -> &'static str {
    let parts = || what.split(", ");
    match () {
        () if parts().any(|part| part == service) => " itself: its store is being opened, or its migrations run",
        () if parts().any(|part| part == "token keys") => ": auth has not answered yet",
        () => "",
    }
}

fn keys(group: &mut Group, now: SystemTime, answers: &[(&str, &str, &Answers)]) {
    let what = "the signing key is replaced in time";
    let of_auth = answers.iter().filter(|(service, _, _)| *service == "auth");
    let due: Vec<(&str, f64)> = of_auth
        .flat_map(|(_, pod, answer)| {
            figures(&answer.metrics, "flaghoist_signing_key_due_timestamp_seconds")
                .into_iter()
                .map(move |(_, at)| (*pod, at))
        })
        .collect();
    let now = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs_f64();
    let Some((_, next)) = due.iter().min_by(|one, other| one.1.total_cmp(&other.1)) else {
        return group.warning(
            what,
            "no pod of auth tells when it is due",
            "is it ready? It tells once it has read its keys",
        );
    };
    let hours = |seconds: f64| {
        if seconds < 172_800.0 {
            format!("{:.0} h", seconds / 3600.0)
        } else {
            format!("{:.0} days", seconds / 86400.0)
        }
    };
    let late = due.iter().filter(|(_, at)| now - at > ROTATION_LATE.as_secs_f64());
    let late: Vec<String> = late.map(|(pod, at)| format!("{pod}: it was due {} ago", hours(now - at))).collect();
    let what =
        if late.is_empty() && *next > now { format!("{what}: due in {}", hours(next - now)) } else { what.to_owned() };
    group.must(what, late, "tokens still verify; the log of auth says \"advancing the signing keys\" with the reason");
}

fn clocks(group: &mut Group, answers: &[(&str, &str, &Answers)]) {
    let by = |ahead: i64| if ahead < 0 { format!("{} s behind", -ahead) } else { format!("{ahead} s ahead") };
    let aheads = || answers.iter().map(|(_, _, answer)| answer.clock_ahead);
    let (least, most) = (aheads().min().unwrap_or(0), aheads().max().unwrap_or(0));
    let apart = Duration::from_secs((most - least).unsigned_abs());
    let said: Vec<String> = answers
        .iter()
        .filter(|(_, _, answer)| answer.clock_ahead != 0)
        .map(|(_, pod, answer)| format!("that of {pod} is {} of this machine's", by(answer.clock_ahead)))
        .collect();
    let hint = "keep the nodes' clocks by NTP: tokens and keys have times, and are refused too early or too late";
    if apart >= CLOCK_WRONG {
        group.must("the pods' clocks agree", said, hint);
    } else if apart >= CLOCK_NOTED {
        group.should("the pods' clocks agree", said, hint);
    } else if Duration::from_secs(most.unsigned_abs().max(least.unsigned_abs())) >= CLOCK_NOTED {
        let found =
            format!("they do among themselves, and are {} of this machine's", by(if most != 0 { most } else { least }));
        group.warning(
            "the pods' clocks agree with the one here",
            found,
            "which of the two is right? A client here may be refused",
        );
    } else {
        group.ok("the pods' clocks agree");
    }
}

fn configured(group: &mut Group, answers: &[(&str, &str, &Answers)]) {
    let (mut unseen, mut apart, mut rejected) = (Vec::new(), Vec::new(), Vec::new());
    for (_, pod, answer) in answers {
        match &answer.sidecar {
            Some(Ok(stats)) => {
                let stats = stats.lines().filter_map(|line| line.split_once(": "));
                for (name, value) in stats.map(|(name, value)| (name, value.trim())) {
                    if name == "control_plane.connected_state" && value == "0" {
                        apart.push(format!("that of {pod} is not"));
                    } else if name.ends_with("update_rejected") && value != "0" {
                        rejected.push(format!("that of {pod} refused {value} of {name}"));
                    }
                }
            }
            Some(Err(refusal)) => unseen.push(format!("{pod}: {}", refusal.why())),
            None => {}
        }
    }
    group.must(
        "every sidecar is connected to istiod",
        apart,
        "policies that change do not arrive there: does the firewall let 15012 of istiod through?",
    );
    group.must(
        "no sidecar has refused its configuration",
        rejected,
        "what came before stays in force: `istioctl proxy-status` and the log of istio-proxy say which resource it was",
    );
    if !unseen.is_empty() {
        group.should("each sidecar can be asked", unseen, "its page on port 15000 of the pod's loopback tells");
    }
}

/// The samples of a metric: their labels as written, and their values.
fn figures<'a>(page: &'a str, metric: &str) -> Vec<(&'a str, f64)> {
    let sample = |line: &'a str| {
        let rest = line.strip_prefix(metric)?;
        let (labels, value) = match rest.strip_prefix('{') {
            Some(rest) => rest.rsplit_once('}')?,
            None => ("", rest.strip_prefix(' ')?),
        };
        Some((labels, value.split_whitespace().next()?.parse().ok()?))
    };
    page.lines().filter_map(sample).collect()
}

/// The value of a label in `peer="auth",…`.
fn quoted<'a>(labels: &'a str, label: &str) -> Option<&'a str> {
    labels.split(',').find_map(|pair| pair.strip_prefix(label)?.strip_prefix("=\"")?.strip_suffix('"'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_read_with_and_without_labels() {
        let page = "# TYPE a gauge\na 1.5\na_b 3\nc{peer=\"auth\",x=\"1\"} 0\n";
        assert_eq!(figures(page, "a"), [("", 1.5)]);
        let found = figures(page, "c");
        assert_eq!(found, [("peer=\"auth\",x=\"1\"", 0.0)]);
        assert_eq!(quoted(found[0].0, "peer"), Some("auth"));
    }

    #[test]
    fn a_clock_is_ahead_or_behind_by_what_is_certain() {
        let at = |millis: u64| SystemTime::UNIX_EPOCH + Duration::from_millis(millis);
        assert_eq!(ahead(at(10_000), at(10_100), at(10_900)), 0);
        assert_eq!(ahead(at(10_000), at(9_400), at(10_050)), 0, "it was cut to the second");
        assert_eq!(ahead(at(20_000), at(10_100), at(10_900)), 9);
        assert_eq!(ahead(at(10_000), at(20_100), at(20_900)), -9);
    }
}
