//! Devices by name: listing and removing them.

use std::sync::Arc;
use std::time::SystemTime;

use flaghoist_proto::receiver::v1::{
    DeleteDeviceRequest, DeleteDeviceResponse, Device, ListDevicesRequest, ListDevicesResponse,
};
use flaghoist_runtime::Caller;
use flaghoist_runtime::fault::check;
use flaghoist_runtime::names::{UserId, parse_device};
use flaghoist_runtime::time::timestamp;
use tonic::{Request, Response, Status};

use crate::error::{DOMAIN, Error};
use crate::service::{Receiver, device_name};
use crate::store::{DeviceKey, Write, Written};

/// Reads the name of a device of `me`; someone else's is not found.
pub(super) fn key(name: &str, field: &str, me: UserId) -> Result<DeviceKey, Error> {
    let (user, device) =
        parse_device(name, me).map_err(|error| Error::Field { field: field.to_owned(), problem: error.to_string() })?;
    if user == me { Ok(DeviceKey { user, device }) } else { Err(Error::DeviceNotFound(name.to_owned())) }
}

pub(super) async fn list_devices(
    receiver: &Arc<Receiver>,
    request: Request<ListDevicesRequest>,
) -> Result<Response<ListDevicesResponse>, Status> {
    let (me, _) = Caller::user_of(&request)?;
    let devices = receiver.store.devices(me).await.map_err(Error::from)?.into_iter().map(|device| {
        let key = DeviceKey { user: me, device: device.device };
        Device {
            name: device_name(&key),
            create_time: Some(timestamp(device.created_at)),
            last_seen_time: Some(timestamp(device.last_seen_at)),
            online: match device.online_until {
                Some(until) => until > SystemTime::now(),
                None => receiver.hub.of_device(&key).is_some(),
            },
        }
    });
    Ok(Response::new(ListDevicesResponse { devices: devices.collect() }))
}

pub(super) async fn delete_device(
    receiver: &Arc<Receiver>,
    request: Request<DeleteDeviceRequest>,
) -> Result<Response<DeleteDeviceResponse>, Status> {
    let (me, _) = Caller::user_of(&request)?;
    let request = request.into_inner();
    check(&request, DOMAIN)?;
    let key = key(&request.name, "name", me)?;
    let not_found = Error::DeviceNotFound(device_name(&key));
    let written = receiver.write(Write::Delete { key: key.clone() }).await?;
    if let Some(live) = receiver.hub.of_device(&key) {
        live.fail(not_found.clone());
    }
    receiver.device_changed(&key);
    if written == Written::NoDevice {
        return Err(not_found.into());
    }
    Ok(Response::new(DeleteDeviceResponse {}))
}
