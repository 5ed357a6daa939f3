// What the story in conversation.ts is told with: steps that are checked and shown, calls in somebody's name, errors with their
// details, and the stream of a browser, which only listens.
import { Code, ConnectError, type CallOptions } from "@connectrpc/connect";
import { BadRequestSchema, ErrorInfoSchema } from "./gen/google/rpc/error_details_pb.ts";

import type { Event } from "./gen/flaghoist/send/v1/event_pb.ts";
import type { ReceiveResponse, SubscribeResponse } from "./gen/flaghoist/receiver/v1/receiver_pb.ts";

/** Shows that a step was as it should be. */
export function ok(step: string): void {
  const line = document.createElement("li");
  line.textContent = step;
  document.getElementById("steps")?.append(line);
  tell("ok", step);
}

let telling: Promise<unknown> = Promise.resolve();

/** Tells the program that opened this page how it goes, one thing after the other; a page for people has no need of it. */
export function tell(outcome: "ok" | "not-ok" | "done", text: string): void {
  telling = telling.then(() => fetch(`/${outcome}`, { method: "POST", body: text }));
}

/** Ends the story with `otherwise` unless what is claimed is so. */
export function want(so: boolean, otherwise: string): asserts so {
  if (!so) throw new Error(otherwise);
}

/** Makes a call the call of whoever holds the token. */
export function as(token: string): CallOptions {
  return { headers: { authorization: `Bearer ${token}` } };
}

/** An id that nobody has used: for requests, and for the handles of a server that is shared. */
export function unique(): string {
  return Array.from(crypto.getRandomValues(new Uint8Array(8)), (byte) => byte.toString(16).padStart(2, "0")).join("");
}

/** Checks that a call is refused with that code and reason, and answers the fields that the error complains of. */
export async function refused(call: Promise<unknown>, code: Code, reason: string): Promise<string[]> {
  const error = await call.then(
    () => new Error(`${Code[code]} was to be expected, and the call was answered`),
    (refusal: unknown) => ConnectError.from(refusal),
  );
  if (!(error instanceof ConnectError)) throw error;
  want(error.code === code, `${Code[code]} was to be expected, and it was ${error.message}`);
  const told = error.findDetails(ErrorInfoSchema)[0]?.reason;
  want(told === reason, `the reason ${reason} was to be expected, and it was ${told}`);
  return error.findDetails(BadRequestSchema).flatMap((detail) => detail.fieldViolations.map(({ field }) => field));
}

/** The live stream of a device. */
export class Stream {
  readonly #ending = new AbortController();
  readonly #heard: AsyncIterator<SubscribeResponse>;

  constructor(open: (options: CallOptions) => AsyncIterable<SubscribeResponse>, token: string) {
    this.#heard = open({ ...as(token), signal: this.#ending.signal })[Symbol.asyncIterator]();
  }

  /** Reads on until `wanted` finds what it looks for. Signs of life and receipts may come at any time. */
  async until<T>(what: string, wanted: (response: ReceiveResponse["response"]) => T | undefined): Promise<T> {
    for (;;) {
      const { done, value } = await this.#heard.next();
      want(!done, `the stream ended before ${what}`);
      const found = value.response && wanted(value.response.response);
      if (found !== undefined) return found;
    }
  }

  /** Reads on until the event that brings a new message. */
  message(): Promise<Event> {
    return this.until("the message", (response) =>
      response.case === "event" && response.value.change.case === "messageCreated" ? response.value : undefined,
    );
  }

  /** Ends the stream from this side. */
  ends(): void {
    this.#ending.abort();
  }
}
