//! `flaghoist group`: begins groups and changes who is in them.

use flaghoist_proto::send::v1::conversation_service_client::ConversationServiceClient;
use flaghoist_proto::send::v1::create_conversation_request::Kind;
use flaghoist_proto::send::v1::{
    AddMembersRequest, CreateConversationRequest, GroupConversation, LeaveConversationRequest, ListMembersRequest,
    RemoveMemberRequest,
};
use serde_json::json;

use super::connection::Signed;
use super::names::Names;
use super::output::{harmless, time, time_value};
use super::target::{Target, new_request_id, person};
use super::{Client, login};
use crate::exit::{Exit, Failure};

/// What can be done with groups.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// Begin a group; you become its owner
    #[command(after_help = "Example:\n  flaghoist group create 'Lunch' @bob @carol")]
    Create {
        /// The title
        title: String,
        /// The others, for example @bob @carol
        #[arg(value_name = "@PERSON")]
        members: Vec<String>,
    },
    /// Add people to a group
    #[command(after_help = "Example:\n  flaghoist group add conversations/0199… @dave")]
    Add {
        /// The group by its name or id
        #[arg(value_name = "CONVERSATION")]
        group: Target,
        /// The people to add
        #[arg(value_name = "@PERSON", required = true)]
        members: Vec<String>,
    },
    /// Remove a person from a group
    #[command(after_help = "Example:\n  flaghoist group remove conversations/0199… @dave")]
    Remove {
        /// The group by its name or id
        #[arg(value_name = "CONVERSATION")]
        group: Target,
        /// The person to remove
        #[arg(value_name = "@PERSON")]
        member: String,
    },
    /// List the members of a group
    #[command(after_help = "Example:\n  flaghoist group members conversations/0199…")]
    Members {
        /// The group by its name or id
        #[arg(value_name = "CONVERSATION")]
        group: Target,
    },
    /// Leave a group
    #[command(after_help = "Example:\n  flaghoist group leave conversations/0199…")]
    Leave {
        /// The group by its name or id
        #[arg(value_name = "CONVERSATION")]
        group: Target,
    },
}

pub(super) async fn run(client: &Client, command: Command) -> Result<(), Failure> {
    let signed = client.signed()?;
    match command {
        Command::Create { title, members } => create(client, &signed, title, &members).await,
        Command::Add { group, members } => add(client, &signed, &group, &members).await,
        Command::Remove { group, member } => remove(client, &signed, &group, &member).await,
        Command::Members { group } => list(client, &signed, &group).await,
        Command::Leave { group } => leave(client, &signed, &group).await,
    }
}

async fn create(client: &Client, signed: &Signed, title: String, members: &[String]) -> Result<(), Failure> {
    let group = GroupConversation { title, members: people(signed, members).await? };
    let request = CreateConversationRequest { request_id: new_request_id(), kind: Some(Kind::Group(group)) };
    let answer = signed
        .call(|service| {
            let request = request.clone();
            async move { ConversationServiceClient::new(service).create_conversation(request).await }
        })
        .await?;
    let conversation = answer
        .conversation
        .ok_or_else(|| Failure::new(Exit::Failed, "the server answered without the conversation"))?;
    client.output.show(
        &json!({
            "conversation": conversation.name,
            "title": conversation.title,
            "member_count": conversation.member_count,
        }),
        || {
            let count = conversation.member_count;
            format!("began {} with {count} members: {}", harmless(&conversation.title), conversation.name)
        },
    )
}

async fn add(client: &Client, signed: &Signed, group: &Target, members: &[String]) -> Result<(), Failure> {
    let parent = name(group)?;
    let request = AddMembersRequest { parent, request_id: new_request_id(), members: people(signed, members).await? };
    signed
        .call(|service| {
            let request = request.clone();
            async move { ConversationServiceClient::new(service).add_members(request).await }
        })
        .await?;
    client.output.show(&json!({"conversation": request.parent, "added": request.members}), || {
        let members: Vec<_> = members.iter().map(|member| harmless(member)).collect();
        format!("added {}", members.join(", "))
    })
}

async fn remove(client: &Client, signed: &Signed, group: &Target, member: &str) -> Result<(), Failure> {
    let parent = name(group)?;
    let request = RemoveMemberRequest {
        parent,
        request_id: new_request_id(),
        member: person(signed, login::plain(member)).await?,
    };
    signed
        .call(|service| {
            let request = request.clone();
            async move { ConversationServiceClient::new(service).remove_member(request).await }
        })
        .await?;
    client.output.show(&json!({"conversation": request.parent, "removed": request.member}), || {
        format!("removed {}", harmless(member))
    })
}

async fn list(client: &Client, signed: &Signed, group: &Target) -> Result<(), Failure> {
    let parent = name(group)?;
    let mut names = Names::new(signed);
    let mut page_token = String::new();
    loop {
        let answer = signed
            .call(|service| {
                let request =
                    ListMembersRequest { parent: parent.clone(), page_size: 200, page_token: page_token.clone() };
                async move { ConversationServiceClient::new(service).list_members(request).await }
            })
            .await?;
        for member in answer.members {
            let handle = names.handle(&member.user).await;
            let shown = names.person(&member.user).await;
            let role = member.role().as_str_name().trim_start_matches("MEMBER_ROLE_").to_lowercase();
            client.output.show(
                &json!({
                    "user": member.user,
                    "handle": handle,
                    "role": role,
                    "join_time": time_value(member.join_time.as_ref()),
                }),
                || format!("{shown}  {role}, since {}", time(member.join_time.as_ref())),
            )?;
        }
        page_token = answer.next_page_token;
        if page_token.is_empty() {
            return Ok(());
        }
    }
}

async fn leave(client: &Client, signed: &Signed, group: &Target) -> Result<(), Failure> {
    let request = LeaveConversationRequest { name: name(group)?, request_id: new_request_id() };
    signed
        .call(|service| {
            let request = request.clone();
            async move { ConversationServiceClient::new(service).leave_conversation(request).await }
        })
        .await?;
    client.output.show(&json!({"conversation": request.name, "left": true}), || format!("left {}", request.name))
}

/// The resource names of people given by their handles.
async fn people(signed: &Signed, handles: &[String]) -> Result<Vec<String>, Failure> {
    let mut users = Vec::with_capacity(handles.len());
    for handle in handles {
        users.push(person(signed, login::plain(handle)).await?);
    }
    Ok(users)
}

fn name(group: &Target) -> Result<String, Failure> {
    match group {
        Target::Conversation(name) => Ok(name.clone()),
        Target::Person(_) => Err(Failure::new(Exit::Usage, "a group is given by its name or id, not by a person")),
    }
}
