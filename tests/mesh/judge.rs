//! Asks the policies as a sidecar would (`flaghoist-mesh`, by which `flaghoist check` asks those of a cluster), and insists on an answer:
//! what the charts render holds nothing that cannot be judged.

pub(crate) use flaghoist_mesh::labels::{Labels, chosen};
use flaghoist_mesh::policy::{Answer, ask};
pub(crate) use flaghoist_mesh::policy::{Request, Token};
use serde_json::Value;

use super::charts::{name, of_kind};

/// Whether the policies among `resources` let `request` through to `pod`: some ALLOW policy must have a rule for it, since there is
/// at least one that concerns the pod.
#[track_caller]
pub(crate) fn allows(resources: &[Value], pod: &Labels, request: &Request<'_>) -> bool {
    let policies = of_kind(resources, "AuthorizationPolicy");
    for policy in &policies {
        assert_eq!(policy["spec"]["action"], "ALLOW", "only what is allowed is said");
    }
    match ask(&policies, pod, request) {
        Answer::Allowed(Some(_)) => true,
        Answer::Allowed(None) => panic!("no policy concerns the pod {pod:?}: everything is allowed"),
        Answer::Refused(_) => false,
        Answer::Perhaps(policy, why) => panic!("{} depends on {why}, which this test cannot judge", name(policy)),
    }
}
