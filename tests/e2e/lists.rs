//! Pages: nothing twice, nothing left out, and tokens that cannot be made up.

use std::collections::HashSet;

use flaghoist_proto::send::v1::{ListConversationsRequest, ListMessagesRequest};

use crate::prelude::*;

async fn page(
    person: &Person,
    parent: &str,
    page_size: i32,
    page_token: String,
    oldest_first: bool,
) -> Result<(Vec<String>, String), Status> {
    let request = ListMessagesRequest { parent: parent.into(), page_size, page_token, oldest_first };
    let page = person.calls().messages().list_messages(request).await?.into_inner();
    Ok((page.messages.into_iter().map(|message| message.text).collect(), page.next_page_token))
}

async fn pages(person: &Person, parent: &str, page_size: i32, oldest_first: bool) -> Vec<String> {
    let mut all = Vec::new();
    let mut token = String::new();
    loop {
        let (texts, next) = page(person, parent, page_size, token, oldest_first).await.expect("a page");
        all.extend(texts);
        token = next;
        if token.is_empty() {
            return all;
        }
    }
}

#[tokio::test]
async fn messages_are_listed_in_both_directions() {
    let world = World::shared().await;
    let (alice, bob) = (world.person("alice").await, world.person("bob").await);
    let conversation = alice.direct(&bob).await;
    let sent: Vec<String> = (0..25).map(|number| number.to_string()).collect();
    for text in &sent {
        alice.sends(text).to(&conversation).await;
    }
    for page_size in [1, 7, 25, 0, 1_000] {
        assert_eq!(pages(&bob, &conversation, page_size, true).await, sent);
        let mut newest_first = pages(&bob, &conversation, page_size, false).await;
        newest_first.reverse();
        assert_eq!(newest_first, sent);
    }
}

#[tokio::test]
async fn a_list_that_is_read_while_messages_come_has_nothing_twice() {
    let world = World::shared().await;
    let (alice, bob) = (world.person("alice").await, world.person("bob").await);
    let conversation = alice.direct(&bob).await;
    for number in 0..20 {
        alice.sends(number.to_string()).to(&conversation).await;
    }
    let (mut all, mut token) = page(&bob, &conversation, 5, String::new(), false).await.expect("a page");
    while !token.is_empty() {
        alice.sends(format!("more {}", all.len())).to(&conversation).await;
        let (texts, next) = page(&bob, &conversation, 5, token, false).await.expect("a page");
        all.extend(texts);
        token = next;
    }
    let expected: Vec<String> = (0..20).rev().map(|number| number.to_string()).collect();
    assert_eq!(all, expected);
}

#[tokio::test]
async fn a_page_token_that_was_altered_or_is_of_another_request_is_refused() {
    let world = World::shared().await;
    let (alice, bob) = (world.person("alice").await, world.person("bob").await);
    let (conversation, other) = (alice.direct(&bob).await, alice.creates_group("team", &[&bob]).await.name);
    for number in 0..5 {
        alice.sends(number.to_string()).to(&conversation).await;
        alice.sends(number.to_string()).to(&other).await;
    }
    let (_, token) = page(&alice, &conversation, 2, String::new(), false).await.expect("a page");
    assert!(!token.is_empty());
    let with = |token: String, parent: &str, oldest_first| {
        let (alice, parent) = (alice.clone(), parent.to_owned());
        async move { page(&alice, &parent, 2, token, oldest_first).await }
    };
    with(token.clone(), &conversation, false).await.expect("as it was given");

    for place in 0..token.len() {
        let mut altered = token.clone().into_bytes();
        altered[place] = if altered[place] == b'A' { b'B' } else { b'A' };
        let altered = String::from_utf8(altered).expect("still ASCII");
        // The last character may carry bits that no byte uses.
        if place + 1 < token.len() {
            refused(with(altered, &conversation, false).await, Code::InvalidArgument, Reason::PageTokenInvalid);
        }
    }
    for broken in ["x", "AAAA", "%%%", "🦆", &token[..token.len() / 2], &format!("{token}A")] {
        refused(with(broken.into(), &conversation, false).await, Code::InvalidArgument, Reason::PageTokenInvalid);
    }
    refused(with(token.clone(), &other, false).await, Code::InvalidArgument, Reason::PageTokenInvalid);
    refused(with(token.clone(), &conversation, true).await, Code::InvalidArgument, Reason::PageTokenInvalid);
    let request = ListConversationsRequest { page_size: 2, page_token: token.clone() };
    let answer = alice.calls().conversations().list_conversations(request).await;
    refused(answer, Code::InvalidArgument, Reason::PageTokenInvalid);
}

#[tokio::test]
async fn conversations_are_listed_page_by_page() {
    let world = World::shared().await;
    let (alice, bob) = (world.person("alice").await, world.person("bob").await);
    let mut made = HashSet::new();
    for number in 0..12 {
        made.insert(alice.creates_group(&format!("group {number}"), &[&bob]).await.name);
    }
    let mut listed = Vec::new();
    let mut page_token = String::new();
    loop {
        let request = ListConversationsRequest { page_size: 5, page_token };
        let page = bob.calls().conversations().list_conversations(request).await.expect("listed").into_inner();
        assert!(page.conversations.len() <= 5);
        listed.extend(page.conversations.into_iter().map(|conversation| conversation.name));
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    assert_eq!(listed.len(), 12);
    assert_eq!(listed.into_iter().collect::<HashSet<_>>(), made);
}
