import { NFNL_MSG_BATCH_BEGIN, NFNL_MSG_BATCH_END, NLM_F_ACK, NLM_F_MULTI, NLM_F_REQUEST } from './constants.ts';
import { type NetlinkMessage, readMessages } from './message-reader.ts';
import type { Netlink, NetlinkRequestOptions } from './netlink.ts';
import { NetlinkError } from './netlink-error.ts';

/** One message as a {@link FakeNetlink} got it. */
export interface FakeRequest extends NetlinkMessage {
  readonly op: string | undefined;
  /** The whole message, from its nlmsghdr on, in memory of its own. */
  readonly bytes: Buffer;
  /** Position in its batch; undefined outside of one. */
  readonly index: number | undefined;
}

/**
 * What the script answers: nothing (acknowledged), payloads with their types, or the positive errno of a refusal. It may as well
 * throw.
 */
export type FakeAnswer = readonly { readonly type: number; readonly payload: Buffer }[] | number | undefined;

/** A {@link Netlink} without a kernel, for tests of whatever is built on one: records requests, answers from a script. */
export class FakeNetlink implements Netlink {
  /** Every message so far, those of batches included (without the marks that begin and end them). */
  readonly requests: FakeRequest[] = [];
  closed = false;
  readonly #answer: (request: FakeRequest) => FakeAnswer;
  #seq = 0;

  /** @param answer - called once per message; by default everything is acknowledged */
  constructor(answer: (request: FakeRequest) => FakeAnswer = () => undefined) {
    this.#answer = answer;
  }

  request(message: Buffer, options: NetlinkRequestOptions = {}): NetlinkMessage[] {
    this.#begin(options);
    message.writeUInt16LE(message.readUInt16LE(6) | NLM_F_REQUEST | NLM_F_ACK, 6);
    const { request, answers } = this.#take(message, options.op, undefined);
    return answers.map(({ type, payload }) => ({ type, flags: NLM_F_MULTI, seq: request.seq, payload }));
  }

  batch(messages: Buffer, options: NetlinkRequestOptions = {}): void {
    this.#begin(options);
    let index = 0;
    let at = 0;
    for (const { type, payload } of readMessages(messages)) {
      const end = at + 16 + payload.length;
      if (type !== NFNL_MSG_BATCH_BEGIN && type !== NFNL_MSG_BATCH_END) {
        this.#take(messages.subarray(at, end), options.op, index);
      }
      at = (end + 3) & ~3;
      index++;
    }
  }

  close(): void {
    this.closed = true;
  }

  [Symbol.dispose](): void {
    this.close();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.close();
  }

  #begin(options: NetlinkRequestOptions): void {
    options.signal?.throwIfAborted();
    if (this.closed) {
      throw new NetlinkError({ op: options.op ?? 'netlink.request', code: 'ERR_NETLINK_CLOSED', message: 'closed' });
    }
  }

  #take(message: Buffer, op: string | undefined, index: number | undefined) {
    const bytes = Buffer.from(message);
    bytes.writeUInt32LE(++this.#seq, 8);
    const request: FakeRequest = { ...readMessages(bytes)[0]!, op, bytes, index };
    this.requests.push(request);
    const answer = this.#answer(request);
    if (typeof answer === 'number') {
      throw new NetlinkError({ op: op ?? 'netlink.request', errno: answer, syscall: 'sendmsg', index });
    }
    return { request, answers: answer ?? [] };
  }
}
