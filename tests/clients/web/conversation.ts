// A first conversation with flaghoist from a browser, over gRPC-Web with Connect: two people register and sign in, one
// writes, the other listens by Subscribe, acknowledges and reads. Every step is checked and shown; the first one that goes
// wrong ends the story. The page comes from another origin than the server, as it does in earnest.
import { Code, ConnectError, createClient } from "@connectrpc/connect";
import { createGrpcWebTransport } from "@connectrpc/connect-web";

import { TokenService, type TokenSet } from "./gen/flaghoist/auth/v1/token_pb.ts";
import { AccountService, LoginService } from "./gen/flaghoist/login/v1/login_pb.ts";
import { ReceiverService } from "./gen/flaghoist/receiver/v1/receiver_pb.ts";
import { ConversationService } from "./gen/flaghoist/send/v1/conversation_pb.ts";
import { MessageService, MessageStatus } from "./gen/flaghoist/send/v1/message_pb.ts";
import { Stream, as, ok, refused, tell, unique, want } from "./steps.ts";

/** The client that people sign in with when none is named. */
const CLIENT_ID = "flaghoist-cli";

/** The name by which the phone goes in the calls that concern it. */
const PHONE = "users/me/devices/browser";

const server = new URL(location.href).searchParams.get("server") ?? "http://127.0.0.1:9000";
const transport = createGrpcWebTransport({ baseUrl: server });
const accounts = createClient(AccountService, transport);
const logins = createClient(LoginService, transport);
const conversations = createClient(ConversationService, transport);
const messages = createClient(MessageService, transport);
const receivers = createClient(ReceiverService, transport);
const tokens = createClient(TokenService, transport);

/** Registers a person under a name that is still free and signs them in. */
async function signsUp(name: string): Promise<TokenSet & { handle: string }> {
  const handle = `${name}-${unique()}`;
  const password = `seven green ${unique()}`;
  await accounts.createAccount({ handle, password });
  const answer = await logins.login({ handle, password, label: "first conversation" });
  want(answer.tokens !== undefined, "signing in gave no tokens");
  return { ...answer.tokens, handle };
}

/** Holds the conversation from registering to the errors. */
async function hold(): Promise<void> {
  // Two people.
  const alice = await signsUp("alice");
  const bob = await signsUp("bob");
  const asAlice = as(alice.accessToken);
  ok("two people registered and signed in");

  // Bob's browser listens.
  const open = { device: PHONE };
  const phone = new Stream((options) => receivers.subscribe({ open }, options), bob.accessToken);
  await phone.until("having caught up", (response) => response.case === "caughtUp" || undefined);
  ok("a stream is open and has caught up");

  // Alice writes to him.
  const found = await accounts.lookupAccount({ handle: `@${bob.handle}` }, asAlice);
  const begun = await conversations.createConversation(
    { requestId: unique(), kind: { case: "direct", value: { user: found.account?.name ?? "" } } },
    asAlice,
  );
  const parent = begun.conversation?.name ?? "";
  const request = { parent, requestId: unique(), text: "hi from a browser" };
  const first = await messages.createMessage(request, asAlice);
  const again = await messages.createMessage(request, asAlice);
  want(!first.deduplicated, "the first send was told to be a repetition");
  want(again.deduplicated, "the second send was not recognised as a repetition");
  want(again.message?.name === first.message?.name, `a repetition made another message: ${again.message?.name}`);
  ok("a message is sent; sent again with its request id it is the same one");

  // It arrives, once, and bob says that he has it, by a call of its own, and has read it.
  const event = await phone.message();
  want(event.change.case === "messageCreated" && event.change.value.text === request.text, "another text arrived");
  const position = { conversation: parent, epoch: event.epoch, seq: event.seq };
  const kept = await receivers.acknowledge({ device: PHONE, positions: [position] }, as(bob.accessToken));
  want(kept.positions.some(({ seq }) => seq === event.seq), "the acknowledgement was not answered");
  ok("it was received live and the acknowledgement is answered");

  const read = await receivers.markRead({ position }, as(bob.accessToken));
  want(read.receipt?.readSeq === event.seq, `the watermark is ${read.receipt?.readSeq} and not ${event.seq}`);
  const { status } = await messages.getMessageStatus({ name: first.message?.name ?? "" }, asAlice);
  want(status === MessageStatus.READ, `the sender sees ${MessageStatus[status]}`);
  ok("it is read, and the sender sees that");

  // Bob gets new tokens; the stream goes on with the token of the next acknowledgement, an empty one if need be.
  const renewal = {
    client: { clientId: CLIENT_ID },
    grant: { case: "refreshToken" as const, value: { refreshToken: bob.refreshToken } },
  };
  const renewed = (await tokens.issueToken(renewal)).tokens;
  const repeated = (await tokens.issueToken(renewal)).tokens;
  want(renewed !== undefined && renewed.refreshToken !== bob.refreshToken, "the refresh token was not replaced");
  want(repeated?.refreshToken === renewed.refreshToken, "a lost answer cannot be had again");
  await receivers.acknowledge({ device: PHONE }, as(renewed.accessToken));
  await messages.createMessage({ parent, requestId: unique(), text: "still there?" }, asAlice);
  const next = await phone.message();
  want(next.previousSeq === event.seq, "the stream left something out, or brought something twice");
  phone.ends();
  ok("tokens are renewed, and the stream goes on with the new one");

  // What is wrong is told in full.
  const nameless = messages.createMessage({ parent, text: "no request id" }, asAlice);
  const fields = await refused(nameless, Code.InvalidArgument, "FIELD_VIOLATION");
  want(fields.includes("request_id"), `the field is not named: ${fields}`);
  ok("a field that breaks its rule is named");

  const other = messages.createMessage({ ...request, text: "something else" }, asAlice);
  await refused(other, Code.FailedPrecondition, "REQUEST_ID_REUSED");
  ok("a request id with other content is refused");

  await refused(conversations.listConversations({}, as("garbage")), Code.Unauthenticated, "TOKEN_INVALID");
  await refused(conversations.listConversations({}), Code.Unauthenticated, "TOKEN_MISSING");
  ok("a token that is none, and no token, are UNAUTHENTICATED");
}

hold().then(
  () => tell("done", server),
  (reason: unknown) => tell("not-ok", reason instanceof ConnectError ? `a call failed: ${reason.message}` : String(reason)),
);
