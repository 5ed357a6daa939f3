//! A book that notices nothing would let every server pass: each broken promise must be noticed.

use super::*;

const CONVERSATION: &str = "conversations/c";

fn event(seq: u64) -> Event {
    Event { conversation: CONVERSATION.into(), epoch: 1, seq, previous_seq: seq - 1, ..Event::default() }
}

fn message(seq: u64, message_no: u64, text: &str) -> Message {
    Message { name: format!("{CONVERSATION}/messages/{seq}"), message_no, text: text.into(), ..Message::default() }
}

fn attempt(text: &str) -> Attempt {
    Attempt { sender: 0, conversation: CONVERSATION.into(), request_id: format!("id {text}"), text: text.into() }
}

fn answer(seq: u64, text: &str) -> CreateMessageResponse {
    CreateMessageResponse { message: Some(message(seq, seq - 1, text)), ..CreateMessageResponse::default() }
}

#[track_caller]
fn breaks(book: &Book, promise: &str) {
    let broken = book.broken().expect_err("it must be noticed");
    assert!(broken.starts_with(promise), "{broken}");
}

#[test]
fn a_flawless_run_breaks_nothing() {
    let book = Book::default();
    book.sent(&attempt("a"), &answer(2, "a"), false);
    book.sent(&attempt("a"), &answer(2, "a"), true);
    book.opened(0, "phone");
    book.heard(0, "phone", &event(1));
    book.heard(0, "phone", &event(2));
    book.says_ack(0, "phone", &event(1));
    let position = Position { conversation: CONVERSATION.into(), epoch: 1, seq: 1 };
    book.acknowledged(0, "phone", &[position]);
    book.opened(0, "phone");
    book.heard(0, "phone", &event(2));
    book.compare(CONVERSATION, &[message(2, 1, "a")]);
    assert_eq!(book.broken(), Ok(()));
    assert_eq!(book.totals().events_again, 1);
}

#[test]
fn a_lost_message_is_noticed() {
    let book = Book::default();
    book.sent(&attempt("a"), &answer(2, "a"), false);
    book.compare(CONVERSATION, &[]);
    breaks(&book, "promise 1");
}

#[test]
fn a_doubled_message_is_noticed() {
    let book = Book::default();
    book.sent(&attempt("a"), &answer(2, "a"), false);
    book.sent(&attempt("a"), &answer(3, "a"), true);
    breaks(&book, "promise 2");
    let book = Book::default();
    book.compare(CONVERSATION, &[message(2, 1, "a"), message(3, 2, "a")]);
    breaks(&book, "promise 2");
}

#[test]
fn holes_and_reused_numbers_are_noticed() {
    let book = Book::default();
    book.compare(CONVERSATION, &[message(2, 1, "a"), message(4, 3, "b")]);
    breaks(&book, "promise 3");
    let book = Book::default();
    book.sent(&attempt("a"), &answer(2, "a"), false);
    book.sent(&attempt("b"), &answer(2, "b"), false);
    breaks(&book, "promise 3");
}

#[test]
fn disorder_and_repetition_after_an_acknowledgement_are_noticed() {
    let book = Book::default();
    book.opened(0, "phone");
    book.heard(0, "phone", &event(1));
    book.heard(0, "phone", &event(3));
    breaks(&book, "promise 4");
    let book = Book::default();
    book.opened(0, "phone");
    book.heard(0, "phone", &event(1));
    book.says_ack(0, "phone", &event(1));
    book.acknowledged(0, "phone", &[Position { conversation: CONVERSATION.into(), epoch: 1, seq: 1 }]);
    book.opened(0, "phone");
    book.heard(0, "phone", &event(1));
    breaks(&book, "promise 4");
}

#[test]
fn a_position_that_moved_by_itself_is_noticed() {
    let book = Book::default();
    book.opened(0, "phone");
    book.heard(0, "phone", &event(1));
    book.opened(0, "phone");
    book.heard(0, "phone", &event(2));
    breaks(&book, "promise 5");
}

#[test]
fn a_watermark_that_falls_is_noticed() {
    let book = Book::default();
    let receipt = |read_seq| Receipt {
        conversation: CONVERSATION.into(),
        member: "users/a".into(),
        read_seq,
        ..Receipt::default()
    };
    book.saw_receipts(&book.watermarks(CONVERSATION), &[receipt(5)]);
    book.saw_receipts(&book.watermarks(CONVERSATION), &[receipt(4)]);
    breaks(&book, "promise 6");
}
