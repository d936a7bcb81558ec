import { InvalidInputError } from '../errors/index.ts';
import {
  AF_NETLINK,
  check,
  EAGAIN,
  EINTR,
  ENOBUFS,
  errno,
  FileDescriptor,
  libc,
  MSG_DONTWAIT,
  MSG_TRUNC,
  SO_RCVBUF,
  SO_RCVBUFFORCE,
  SOCK_CLOEXEC,
  SOCK_RAW,
  SOL_NETLINK,
  SOL_SOCKET,
} from '../system/index.ts';
import { type NetlinkFamily, netlinkProtocols } from './family.ts';
import { type NetlinkMessage, readMessages } from './message-reader.ts';

import { NetlinkError } from './netlink-error.ts';

/** What one reading gave. */
export interface Notifications {
  /** In the order in which the kernel sent them. They own their memory. */
  readonly messages: readonly NetlinkMessage[];
  /** Something before, between or after them is lost (ENOBUFS, or a datagram that did not fit): read the state itself again. */
  readonly lost: boolean;
}

/** Where notifications come from: {@link openNotifications} has the kernel's, {@link FakeNotifications} those of a script. */
export interface NotificationSource extends Disposable {
  /** What has come since the last reading; does not wait. */
  receive(): Notifications;
  /** A second call does nothing. */
  close(): void;
}

/** How notifications are listened for. */
export interface NotificationOptions {
  readonly family: NetlinkFamily;
  /** Groups to join, 1 to 64: `NFNLGRP_NFTABLES`, `RTNLGRP_IPV4_RULE`. They need no privilege, except those of conntrack. */
  readonly groups: readonly number[];
  /** Where the socket is made, and what it hears of for life. Default: the namespace of the calling thread. */
  readonly namespace?: { run<T>(fn: () => T): T } | undefined;
  /** Room for what comes between two readings; beyond it, {@link Notifications.lost}. Default 1 MiB. */
  readonly receiveBufferBytes?: number;
}

/** `<linux/netlink.h>` */
const NETLINK_ADD_MEMBERSHIP = 1;
const SOCKADDR_NL_BYTES = 12;
/** Above the largest notification: nf_tables sends at most one page of them at a time. */
const DATAGRAM_BYTES = 64 << 10;
/** Per reading, so that a namespace in which everything changes does not keep the event loop for itself. */
const MAX_DATAGRAMS = 256;

/**
 * Opens a socket that hears of changes.
 *
 * @returns owned by the caller, one descriptor until `close()`
 * @throws {InvalidInputError} `ERR_NETLINK_INVALID` (fields `groups`, `receiveBufferBytes`); `SystemError` naming the call that failed
 */
export function openNotifications(options: NotificationOptions): NotificationSource {
  const { groups, receiveBufferBytes = 1 << 20, namespace } = options;
  if (groups.length === 0) throw invalid('groups', 'there is none to join');
  for (const [i, group] of groups.entries()) {
    if (Number.isInteger(group) && group >= 1 && group <= 64) continue;
    throw invalid(`groups[${i}]`, `${group} is no whole number from 1 to 64`);
  }
  if (!Number.isInteger(receiveBufferBytes) || receiveBufferBytes < 1 || receiveBufferBytes > 0x3fff_ffff) {
    throw invalid('receiveBufferBytes', `${receiveBufferBytes} is no whole number from 1 to ${0x3fff_ffff}`);
  }
  const make = () => new KernelNotifications(options.family, groups, receiveBufferBytes);
  return namespace === undefined ? make() : namespace.run(make);
}

class KernelNotifications implements NotificationSource {
  readonly #descriptor: FileDescriptor;
  readonly #buffer = Buffer.alloc(DATAGRAM_BYTES);
  readonly #sender = Buffer.alloc(SOCKADDR_NL_BYTES);
  readonly #senderLength = new Int32Array(1);

  constructor(family: NetlinkFamily, groups: readonly number[], receiveBufferBytes: number) {
    const protocol = netlinkProtocols[family];
    const op = 'netlink.subscribe';
    const fd = check(libc().socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, protocol), 'socket', 'AF_NETLINK', op);
    this.#descriptor = new FileDescriptor(fd, `netlink ${family} notification socket`);
    try {
      const { subject } = this.#descriptor;
      const size = Int32Array.of(receiveBufferBytes);
      if (libc().setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, size, 4) !== 0) {
        check(libc().setsockopt(fd, SOL_SOCKET, SO_RCVBUF, size, 4), 'setsockopt', subject, op);
      }
      const local = Buffer.alloc(SOCKADDR_NL_BYTES);
      local.writeUInt16LE(AF_NETLINK, 0);
      check(libc().bind(fd, local, local.length), 'bind', subject, op);
      for (const group of groups) {
        const joined = libc().setsockopt(fd, SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, Int32Array.of(group), 4);
        check(joined, 'setsockopt', `${subject}, group ${group}`, op);
      }
    } catch (error) {
      this.#descriptor.close();
      throw error;
    }
  }

  receive(): Notifications {
    const messages: NetlinkMessage[] = [];
    let lost = false;
    for (let count = 0; count < MAX_DATAGRAMS; count++) {
      this.#senderLength[0] = SOCKADDR_NL_BYTES;
      const length = libc().recvfrom(
        this.#descriptor.fd,
        this.#buffer,
        this.#buffer.length,
        MSG_DONTWAIT | MSG_TRUNC,
        this.#sender,
        this.#senderLength,
      );
      if (length < 0) {
        const error = errno();
        if (error === EAGAIN) break;
        if (error === EINTR) continue;
        if (error !== ENOBUFS) throw new NetlinkError({ op: 'netlink.subscribe', errno: error, syscall: 'recvfrom' });
        lost = true;
        continue;
      }
      // Any process may send to a netlink port; only the kernel's is 0.
      if (this.#sender.readUInt32LE(4) !== 0) continue;
      if (length > this.#buffer.length) lost = true;
      else messages.push(...readMessages(Buffer.from(this.#buffer.subarray(0, length))));
    }
    return { messages, lost };
  }

  close(): void {
    this.#descriptor.close();
  }

  [Symbol.dispose](): void {
    this.close();
  }
}

/** How {@link subscribe} listens. */
export interface SubscribeOptions {
  /** Ends the subscription. */
  readonly signal?: AbortSignal | undefined;
  /** Time between two readings. Default 100. */
  readonly intervalMs?: number;
  /** Called with what came since the last time, never with nothing. */
  readonly onNotifications: (notifications: Notifications) => void;
  /** The source failed; the subscription has ended. */
  readonly onError: (error: unknown) => void;
}

/** A running {@link subscribe}. */
export interface Subscription extends Disposable {
  /** Ends it, and closes its source. A second call does nothing. */
  close(): void;
}

/**
 * Reads `source` again and again, and owns it from now on.
 *
 * Node has no way to wait for a descriptor that is none of its own, so this reads without waiting, by a timer. A thread that sleeps
 * in `poll(2)` would answer sooner, but costs a thread with its own V8 for each watcher; a reading that finds nothing is one
 * system call of a microsecond, ten a second, and the kernel keeps what comes between. Keeps the process alive.
 *
 * @throws {InvalidInputError} `ERR_NETLINK_INVALID` (field `intervalMs`)
 */
export function subscribe(source: NotificationSource, options: SubscribeOptions): Subscription {
  const { signal, intervalMs = 100, onNotifications, onError } = options;
  if (!Number.isFinite(intervalMs) || intervalMs < 1 || intervalMs > 60_000) {
    throw invalid('intervalMs', `${intervalMs} is no time from 1 to 60000`);
  }
  let closed = false;
  const close = () => {
    if (closed) return;
    closed = true;
    clearInterval(timer);
    signal?.removeEventListener('abort', close);
    source.close();
  };
  const read = () => {
    let notifications: Notifications;
    try {
      notifications = source.receive();
    } catch (error) {
      close();
      onError(error);
      return;
    }
    if (notifications.lost || notifications.messages.length > 0) onNotifications(notifications);
  };
  const timer = setInterval(read, intervalMs);
  if (signal?.aborted) close();
  else signal?.addEventListener('abort', close);
  return { close, [Symbol.dispose]: close };
}

function invalid(field: string, message: string): InvalidInputError {
  return new InvalidInputError({ code: 'ERR_NETLINK_INVALID', op: 'netlink.subscribe', field, message });
}
