//! `Deliver`, for one event. Most events concern no stream here, so that is found out first and costs next to nothing.

use flaghoist_proto::receiver::v1::Delivery as Wire;
use flaghoist_runtime::names::UserId;

use crate::error::Error;
use crate::hub::{Delivery, Hub};
use crate::unread::conversation;

/// Takes one event to the streams it concerns.
pub(crate) fn deliver(hub: &Hub, delivery: Wire) -> Result<bool, Error> {
    let Some(event) = delivery.event else { return Err(bad("deliveries.event", "is required")) };
    let conversation = conversation(&event.conversation, || "deliveries.event.conversation".into())?;
    if delivery.added_members.is_empty() && !hub.interested(conversation) {
        return Ok(false);
    }
    let person = |name: &String| UserId::parse(name).map_err(|error| bad("deliveries", &error.to_string()));
    let people = |names: &[String]| names.iter().map(person).collect::<Result<Vec<_>, _>>();
    let only_for = Some(&delivery.only_for).filter(|name| !name.is_empty()).map(person).transpose()?;
    let (added, removed) = (people(&delivery.added_members)?, people(&delivery.removed_members)?);
    Ok(hub.deliver(Delivery { conversation, event, only_for, added, removed }))
}

fn bad(field: &str, problem: &str) -> Error {
    Error::Field { field: field.into(), problem: problem.into() }
}
