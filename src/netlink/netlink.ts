import type { NetlinkMessage } from './message-reader.ts';

/** How one request is made. */
export interface NetlinkRequestOptions {
  /** Names the operation in errors: `route.addLink`. Default `netlink.request` or `netlink.batch`. */
  readonly op?: string;
  /** Checked before anything is sent. The exchange itself is synchronous and bounded by the socket's `timeoutMs`. */
  readonly signal?: AbortSignal | undefined;
}

/**
 * A conversation with one netlink family of one network namespace: {@link openNetlink} has it with the kernel,
 * {@link FakeNetlink} with a script. One request at a time, answered before the call returns, so there is nothing to interleave.
 */
export interface Netlink extends AsyncDisposable, Disposable {
  /**
   * Sends one message and collects the answers up to the acknowledgement or, for a dump, the end of the last part.
   *
   * @param message - one message of a {@link MessageWriter}; its sequence number and the flags NLM_F_REQUEST and NLM_F_ACK are
   * written into it
   * @returns the answers that are neither acknowledgement nor end mark; none for most writes. They own their memory
   * @throws {NetlinkError} with `errno`, or one of the `ERR_NETLINK_…` codes
   */
  request(message: Buffer, options?: NetlinkRequestOptions): NetlinkMessage[];

  /**
   * Sends an nfnetlink transaction, from NFNL_MSG_BATCH_BEGIN to NFNL_MSG_BATCH_END, in one `sendmsg`: all of it is done, or nothing.
   *
   * @throws {NetlinkError} for the first message the kernel refused, with its `index`
   */
  batch(messages: Buffer, options?: NetlinkRequestOptions): void;

  /** A second call does nothing. */
  close(): void;
}
