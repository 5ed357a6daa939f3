//! Positions on the wire and in the domain.

use flaghoist_proto::receiver::v1::Position as Wire;

use crate::error::Error;
use crate::stream::Position;
use crate::unread::conversation;

/// Reads positions; `field` is where they lie in the request.
pub(super) fn read(positions: &[Wire], field: &str) -> Result<Vec<Position>, Error> {
    let read = |(index, position)| read_named(position, || format!("{field}[{index}].conversation"));
    positions.iter().enumerate().map(read).collect()
}

/// Reads the position in `field`.
pub(super) fn read_one(position: &Wire, field: &str) -> Result<Position, Error> {
    read_named(position, || format!("{field}.conversation"))
}

fn read_named(position: &Wire, field: impl FnOnce() -> String) -> Result<Position, Error> {
    let conversation = conversation(&position.conversation, field)?;
    Ok(Position { conversation, epoch: position.epoch, seq: position.seq })
}

/// Writes a position.
pub(super) fn write(position: &Position) -> Wire {
    Wire { conversation: position.conversation.name(), epoch: position.epoch, seq: position.seq }
}
