//! The calls: each checks, calls the domain, answers. One file per method where there is more than that to it.

mod deliver;
mod devices;
mod positions;
mod receive;
mod said;
mod subject;
mod unread;

use std::pin::Pin;
use std::sync::Arc;

use flaghoist_proto::receiver::v1::delivery_service_server::{DeliveryService, DeliveryServiceServer};
use flaghoist_proto::receiver::v1::receiver_service_server::{ReceiverService, ReceiverServiceServer};
use flaghoist_proto::receiver::v1::subject_service_server::SubjectServiceServer;
use flaghoist_proto::receiver::v1::{
    AcknowledgeRequest, AcknowledgeResponse, DeleteDeviceRequest, DeleteDeviceResponse, DeliverRequest,
    DeliverResponse, ListDevicesRequest, ListDevicesResponse, ListUnreadRequest, ListUnreadResponse, MarkReadRequest,
    MarkReadResponse, ReceiveRequest, ReceiveResponse, SetTypingRequest, SetTypingResponse, SubscribeRequest,
    SubscribeResponse,
};
use flaghoist_runtime::fault::check;
use flaghoist_runtime::{Caller, Parts};
use futures_util::Stream;
use tonic::service::Routes;
use tonic::{Request, Response, Status, Streaming};

use crate::error::DOMAIN;
use crate::service::Receiver;
use crate::unread::conversation;
pub(crate) use deliver::deliver;
pub(crate) use receive::heard;

/// The longest request of a device: an acknowledgement of 256 positions needs 20 KiB.
const REQUEST_MAX_BYTES: usize = 128 * 1024;

/// The longest delivery.
const DELIVERY_MAX_BYTES: usize = 128 * 1024 * 1024;

/// What the receiver offers.
pub(crate) fn parts(receiver: Arc<Receiver>) -> Parts {
    let public = ReceiverServiceServer::new(Public(Arc::clone(&receiver))).max_decoding_message_size(REQUEST_MAX_BYTES);
    let internal =
        DeliveryServiceServer::new(Internal(Arc::clone(&receiver))).max_decoding_message_size(DELIVERY_MAX_BYTES);
    let subjects = SubjectServiceServer::new(Internal(receiver));
    Parts {
        public: Routes::new(public),
        internal: Routes::new(internal).add_service(subjects),
        http: None,
        services: vec![tonic_name::<ReceiverServiceServer<Public>>()],
    }
}

fn tonic_name<S: tonic::server::NamedService>() -> &'static str {
    S::NAME
}

/// The calls of devices and people.
struct Public(Arc<Receiver>);

/// The calls of other services.
struct Internal(Arc<Receiver>);

/// A response that is read piece by piece.
type Pieces<M> = Pin<Box<dyn Stream<Item = Result<M, Status>> + Send>>;

#[tonic::async_trait]
impl ReceiverService for Public {
    type ReceiveStream = Pieces<ReceiveResponse>;
    type SubscribeStream = Pieces<SubscribeResponse>;

    async fn receive(
        &self,
        request: Request<Streaming<ReceiveRequest>>,
    ) -> Result<Response<Self::ReceiveStream>, Status> {
        receive::receive(&self.0, request).await
    }

    async fn subscribe(&self, request: Request<SubscribeRequest>) -> Result<Response<Self::SubscribeStream>, Status> {
        receive::subscribe(&self.0, request)
    }

    async fn acknowledge(&self, request: Request<AcknowledgeRequest>) -> Result<Response<AcknowledgeResponse>, Status> {
        let (me, caller) = Caller::user_of(&request)?;
        let request = request.into_inner();
        check(&request, DOMAIN)?;
        let key = devices::key(&request.device, "device", me)?;
        let asked = positions::read(&request.positions, "positions")?;
        receive::heard(&self.0, &key, Arc::clone(&caller));
        let durable = self.0.acknowledge(&key, asked, caller).await?;
        Ok(Response::new(AcknowledgeResponse { positions: durable.iter().map(positions::write).collect() }))
    }

    async fn mark_read(&self, request: Request<MarkReadRequest>) -> Result<Response<MarkReadResponse>, Status> {
        let (me, _) = Caller::user_of(&request)?;
        let request = request.into_inner();
        check(&request, DOMAIN)?;
        let position = positions::read_one(&request.position.unwrap_or_default(), "position")?;
        let receipt = self.0.mark_read(me, position).await?;
        Ok(Response::new(MarkReadResponse { receipt: Some(receipt.wire()) }))
    }

    async fn list_unread(&self, request: Request<ListUnreadRequest>) -> Result<Response<ListUnreadResponse>, Status> {
        unread::list_unread(&self.0, request).await
    }

    async fn set_typing(&self, request: Request<SetTypingRequest>) -> Result<Response<SetTypingResponse>, Status> {
        let (me, _) = Caller::user_of(&request)?;
        let request = request.into_inner();
        check(&request, DOMAIN)?;
        self.0.typing(me, conversation(&request.conversation, || "conversation".into())?).await?;
        Ok(Response::new(SetTypingResponse {}))
    }

    async fn list_devices(
        &self,
        request: Request<ListDevicesRequest>,
    ) -> Result<Response<ListDevicesResponse>, Status> {
        devices::list_devices(&self.0, request).await
    }

    async fn delete_device(
        &self,
        request: Request<DeleteDeviceRequest>,
    ) -> Result<Response<DeleteDeviceResponse>, Status> {
        devices::delete_device(&self.0, request).await
    }
}

#[tonic::async_trait]
impl DeliveryService for Internal {
    async fn deliver(&self, request: Request<DeliverRequest>) -> Result<Response<DeliverResponse>, Status> {
        let request = request.into_inner();
        check(&request, DOMAIN)?;
        // The others first: they are further away.
        self.0.hub.tell_events(&request.deliveries);
        let deliveries = request.deliveries.into_iter().map(|delivery| deliver::deliver(&self.0.hub, delivery));
        Ok(Response::new(DeliverResponse { handed_over: deliveries.collect::<Result<_, _>>()? }))
    }
}
