//! `SubjectService`, for login: the devices of a person go, or are given out. A person has few.

use std::sync::Arc;

use flaghoist_proto::receiver::v1::subject_service_server::SubjectService;
use flaghoist_proto::receiver::v1::{
    EraseSubjectRequest, EraseSubjectResponse, ExportSubjectRequest, ExportSubjectResponse,
};
use flaghoist_runtime::fault::check;
use flaghoist_runtime::names::UserId;
use flaghoist_runtime::time::timestamp;
use futures_util::stream;
use serde_json::json;
use tonic::{Request, Response, Status};

use super::{Internal, Pieces};
use crate::error::{DOMAIN, Error};
use crate::service::{Receiver, device_name};
use crate::store::{DeviceKey, Write};

#[tonic::async_trait]
impl SubjectService for Internal {
    type ExportSubjectStream = Pieces<ExportSubjectResponse>;

    async fn erase_subject(
        &self,
        request: Request<EraseSubjectRequest>,
    ) -> Result<Response<EraseSubjectResponse>, Status> {
        let request = request.into_inner();
        check(&request, DOMAIN)?;
        let user = user(&request.user)?;
        let keys = keys(&self.0, user).await?;
        if !request.count_only {
            erase(&self.0, user, &keys).await?;
        }
        Ok(Response::new(EraseSubjectResponse { device_count: keys.len() as i64 }))
    }

    async fn export_subject(
        &self,
        request: Request<ExportSubjectRequest>,
    ) -> Result<Response<Self::ExportSubjectStream>, Status> {
        let request = request.into_inner();
        check(&request, DOMAIN)?;
        let user = user(&request.user)?;
        let mut pieces = Vec::new();
        for device in self.0.store.devices(user).await.map_err(Error::from)? {
            let key = DeviceKey { user, device: device.device };
            let positions = self.0.store.positions(&key).await.map_err(Error::from)?;
            let positions = positions.iter().map(|position| {
                json!({ "conversation": position.conversation.name(), "epoch": position.epoch.to_string(), "seq": position.seq })
            });
            let line = json!({
                "device": device_name(&key),
                "create_time": timestamp(device.created_at).to_string(),
                "last_seen_time": timestamp(device.last_seen_at).to_string(),
                "acknowledged": positions.collect::<Vec<_>>(),
            });
            pieces.push(Ok(ExportSubjectResponse { file: "devices".into(), lines: vec![line.to_string()] }));
        }
        Ok(Response::new(Box::pin(stream::iter(pieces))))
    }
}

fn user(name: &str) -> Result<UserId, Error> {
    UserId::parse(name).map_err(|error| Error::Field { field: "user".into(), problem: error.to_string() })
}

async fn keys(receiver: &Receiver, user: UserId) -> Result<Vec<DeviceKey>, Error> {
    let devices = receiver.store.devices(user).await?;
    Ok(devices.into_iter().map(|device| DeviceKey { user, device: device.device }).collect())
}

/// Removes the devices, and ends what streams there are, here and on other pods.
async fn erase(receiver: &Arc<Receiver>, user: UserId, keys: &[DeviceKey]) -> Result<(), Error> {
    for key in keys {
        receiver.write(Write::Delete { key: key.clone() }).await?;
        receiver.device_changed(key);
    }
    for live in receiver.hub.of(user) {
        live.fail(Error::DeviceNotFound(device_name(&live.key)));
    }
    Ok(())
}
