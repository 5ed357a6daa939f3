//! One call of each kind to each service: one that is for a person, one that is for another service.

use flaghoist_proto::auth::v1::session_service_client::SessionServiceClient;
use flaghoist_proto::auth::v1::verification_service_client::VerificationServiceClient;
use flaghoist_proto::auth::v1::{GetJwksRequest, ListSessionsRequest};
use flaghoist_proto::login::v1::account_service_client::AccountServiceClient;
use flaghoist_proto::login::v1::directory_service_client::DirectoryServiceClient;
use flaghoist_proto::login::v1::{BatchGetUsersRequest, GetAccountRequest};
use flaghoist_proto::receiver::v1::delivery_service_client::DeliveryServiceClient;
use flaghoist_proto::receiver::v1::receiver_service_client::ReceiverServiceClient;
use flaghoist_proto::receiver::v1::{DeliverRequest, ListDevicesRequest};
use flaghoist_proto::send::v1::conversation_service_client::ConversationServiceClient;
use flaghoist_proto::send::v1::log_service_client::LogServiceClient;
use flaghoist_proto::send::v1::{ListConversationsRequest, ListHeadsRequest};
use tonic::transport::Channel;
use tonic::{Request, Status};

use crate::serve::Service;

/// A request of whoever holds the token; of a stranger without one.
pub(super) fn of<T>(message: T, token: Option<&str>) -> Result<Request<T>, Status> {
    let mut request = Request::new(message);
    if let Some(token) = token {
        let value = format!("Bearer {token}").parse();
        let value = value.map_err(|_| Status::internal("the token cannot be sent"))?;
        request.metadata_mut().insert("authorization", value);
    }
    Ok(request)
}

/// Reads something that is the caller's own.
pub(super) async fn of_a_person(service: Service, channel: Channel, token: Option<&str>) -> Result<(), Status> {
    match service {
        Service::Auth => {
            let request = of(ListSessionsRequest::default(), token)?;
            SessionServiceClient::new(channel).list_sessions(request).await.map(drop)
        }
        Service::Login => {
            let request = of(GetAccountRequest::default(), token)?;
            AccountServiceClient::new(channel).get_account(request).await.map(drop)
        }
        Service::Send => {
            let request = of(ListConversationsRequest::default(), token)?;
            ConversationServiceClient::new(channel).list_conversations(request).await.map(drop)
        }
        Service::Receiver => {
            let request = of(ListDevicesRequest::default(), token)?;
            ReceiverServiceClient::new(channel).list_devices(request).await.map(drop)
        }
    }
}

/// Asks what only other services may ask.
pub(super) async fn of_a_service(service: Service, channel: Channel) -> Result<(), Status> {
    match service {
        Service::Auth => VerificationServiceClient::new(channel).get_jwks(GetJwksRequest {}).await.map(drop),
        Service::Login => {
            DirectoryServiceClient::new(channel).batch_get_users(BatchGetUsersRequest::default()).await.map(drop)
        }
        Service::Send => LogServiceClient::new(channel).list_heads(ListHeadsRequest::default()).await.map(drop),
        Service::Receiver => DeliveryServiceClient::new(channel).deliver(DeliverRequest::default()).await.map(drop),
    }
}
