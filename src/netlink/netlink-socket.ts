import { env, stderr } from 'node:process';
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
  MSG_PEEK,
  MSG_TRUNC,
  NETLINK_CAP_ACK,
  NETLINK_EXT_ACK,
  NETLINK_GET_STRICT_CHK,
  POLLIN,
  SO_RCVBUF,
  SO_RCVBUFFORCE,
  SO_SNDBUF,
  SO_SNDBUFFORCE,
  SOCK_CLOEXEC,
  SOCK_RAW,
  SOL_NETLINK,
  SOL_SOCKET,
} from '../system/index.ts';
import {
  NFNL_MSG_BATCH_BEGIN,
  NFNL_MSG_BATCH_END,
  NLM_F_ACK,
  NLM_F_DUMP_INTR,
  NLM_F_REQUEST,
  NLMSG_DONE,
  NLMSG_ERROR,
  NLMSG_NOOP,
  NLMSG_OVERRUN,
} from './constants.ts';
import { readAcknowledgement, refusal } from './extended-ack.ts';
import { type NetlinkFamily, netlinkProtocols } from './family.ts';
import { messageEnd, type NetlinkMessage, readMessages } from './message-reader.ts';
import { fixedHeaderBytes, formatMessages, messageTypeName } from './message-text.ts';
import type { Netlink, NetlinkRequestOptions } from './netlink.ts';
import { NetlinkError } from './netlink-error.ts';
import { formatMessagesForNft } from './nftables/debug-text.ts';

/** How a netlink socket is opened. */
export interface NetlinkOptions {
  /** NETLINK_ROUTE, NETLINK_NETFILTER or NETLINK_SOCK_DIAG. */
  readonly family: NetlinkFamily;
  /**
   * Where the socket is made, and what it speaks about for life: a `NetworkNamespace` of `ambient-kit/netns`, which may be closed
   * afterwards. Default: the namespace of the calling thread.
   */
  readonly namespace?: { run<T>(fn: () => T): T } | undefined;
  /** SO_RCVBUFFORCE, or SO_RCVBUF where that is not permitted: room for the refusals of one batch. Default 1 MiB. */
  readonly receiveBufferBytes?: number;
  /** The longest wait for the kernel in one request; the calling thread sleeps meanwhile. Default 5000. */
  readonly timeoutMs?: number;
  /** The answers of one request may take this much memory, ERR_NETLINK_REPLY_LIMIT beyond. Default 64 MiB. */
  readonly maxReplyBytes?: number;
  /** A dump that the kernel marks as inconsistent (NLM_F_DUMP_INTR) is asked for again this often. Default 10. */
  readonly dumpRetries?: number;
  /**
   * Gets every message sent and received as text ({@link formatMessages}). Default: stderr if AMBIENT_NETLINK_DEBUG is 1, or `nft` for
   * the form of `nft --debug=netlink`; else nobody.
   */
  readonly trace?: (text: string) => void;
}

/**
 * Opens a netlink socket. Needs no privilege by itself: the kernel checks each request.
 *
 * @returns a {@link Netlink} that owns one descriptor until `close()`
 * @throws {InvalidInputError} `ERR_NETLINK_INVALID`; `SystemError` naming the call that failed
 */
export function openNetlink(options: NetlinkOptions): Netlink {
  checkOptions(options);
  const make = () => new NetlinkSocket(options);
  return options.namespace === undefined ? make() : options.namespace.run(make);
}

function checkOptions(options: NetlinkOptions): void {
  const invalid = (field: string, message: string) =>
    new InvalidInputError({ code: 'ERR_NETLINK_INVALID', op: 'netlink.open', field, message });
  if (!Object.hasOwn(netlinkProtocols, options.family)) {
    throw invalid('family', `${JSON.stringify(options.family)} is none of ${Object.keys(netlinkProtocols).join(', ')}`);
  }
  for (const field of ['receiveBufferBytes', 'timeoutMs', 'maxReplyBytes', 'dumpRetries'] as const) {
    const value = options[field];
    const min = field === 'dumpRetries' ? 0 : 1;
    if (value === undefined || (Number.isInteger(value) && value >= min && value <= 0x3fff_ffff)) continue;
    throw invalid(field, `${value} is no whole number from ${min} to ${0x3fff_ffff}`);
  }
}

/** Enough for every part of a dump (the kernel makes those no larger than 32 KiB); grows for a larger single answer. */
const RECEIVE_BYTES = 64 << 10;
const SOCKADDR_NL_BYTES = 12;
/** Values of AMBIENT_NETLINK_DEBUG that ask for a dump. */
const DUMPS: ReadonlySet<string> = new Set(['1', 'nft']);

class NetlinkSocket implements Netlink {
  readonly #descriptor: FileDescriptor;
  readonly #family: NetlinkFamily;
  readonly #timeoutMs: number;
  readonly #maxReplyBytes: number;
  readonly #dumpRetries: number;
  readonly #trace: ((text: string) => void) | undefined;
  readonly #format: typeof formatMessages;
  readonly #sender = Buffer.alloc(SOCKADDR_NL_BYTES);
  readonly #senderLength = new Int32Array(1);
  readonly #pollfd = Buffer.alloc(8);
  #received = Buffer.alloc(RECEIVE_BYTES);
  #sendBufferBytes = 0;
  #seq = (Date.now() / 1000) >>> 0;

  constructor(options: NetlinkOptions) {
    this.#family = options.family;
    this.#timeoutMs = options.timeoutMs ?? 5000;
    this.#maxReplyBytes = options.maxReplyBytes ?? 64 << 20;
    this.#dumpRetries = options.dumpRetries ?? 10;
    this.#trace =
      options.trace ?? (DUMPS.has(env.AMBIENT_NETLINK_DEBUG ?? '') ? (text) => stderr.write(text) : undefined);
    this.#format = env.AMBIENT_NETLINK_DEBUG === 'nft' ? formatMessagesForNft : formatMessages;
    const fd = check(
      libc().socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, netlinkProtocols[options.family]),
      'socket',
      'AF_NETLINK',
      'netlink.open',
    );
    this.#descriptor = new FileDescriptor(fd, `netlink ${options.family} socket`);
    try {
      this.#set(SOL_NETLINK, NETLINK_EXT_ACK, 1);
      this.#set(SOL_NETLINK, NETLINK_CAP_ACK, 1);
      // Filters of a dump are obeyed instead of ignored. Kernels before 4.20 do not know it and give more than was asked for.
      this.#trySet(SOL_NETLINK, NETLINK_GET_STRICT_CHK, 1);
      const receiveBufferBytes = options.receiveBufferBytes ?? 1 << 20;
      if (!this.#trySet(SOL_SOCKET, SO_RCVBUFFORCE, receiveBufferBytes)) {
        this.#set(SOL_SOCKET, SO_RCVBUF, receiveBufferBytes);
      }
      const local = Buffer.alloc(SOCKADDR_NL_BYTES);
      local.writeUInt16LE(AF_NETLINK, 0);
      check(libc().bind(fd, local, local.length), 'bind', this.#descriptor.subject, 'netlink.open');
      this.#pollfd.writeInt32LE(fd, 0);
      this.#pollfd.writeInt16LE(POLLIN, 4);
    } catch (error) {
      this.#descriptor.close();
      throw error;
    }
  }

  request(message: Buffer, options: NetlinkRequestOptions = {}): NetlinkMessage[] {
    const op = options.op ?? 'netlink.request';
    this.#begin(op, options.signal);
    if (messageEnd(message, 0) !== message.length) throw malformed(op, 'a request is one message');
    message.writeUInt16LE(message.readUInt16LE(6) | NLM_F_REQUEST | NLM_F_ACK, 6);
    for (let attempt = 0; attempt <= this.#dumpRetries; attempt++) {
      const seq = this.#stamp(message, 0);
      this.#send(message, op);
      const answers = this.#collect(message, seq, op);
      if (answers !== undefined) return answers;
    }
    throw new NetlinkError({
      op,
      code: 'ERR_NETLINK_INTERRUPTED',
      message: `the table changed during each of ${this.#dumpRetries + 1} dumps (${this.#typeName(message)})`,
    });
  }

  batch(messages: Buffer, options: NetlinkRequestOptions = {}): void {
    const op = options.op ?? 'netlink.batch';
    this.#begin(op, options.signal);
    const { firstSeq, lastCommandSeq, starts } = this.#stampBatch(messages, op);
    this.#send(messages, op);
    this.#collectBatch(messages, starts, firstSeq, lastCommandSeq, op);
  }

  close(): void {
    this.#descriptor.close();
  }

  [Symbol.dispose](): void {
    this.close();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.close();
  }

  #begin(op: string, signal: AbortSignal | undefined): void {
    signal?.throwIfAborted();
    if (this.#descriptor.closed) {
      throw new NetlinkError({ op, code: 'ERR_NETLINK_CLOSED', message: `the ${this.#descriptor.subject} is closed` });
    }
  }

  #stamp(buffer: Buffer, at: number): number {
    // 0 is what the kernel uses for notifications.
    this.#seq = (this.#seq + 1) >>> 0 || 1;
    buffer.writeUInt32LE(this.#seq, at + 8);
    buffer.writeUInt32LE(0, at + 12);
    return this.#seq;
  }

  /** Numbers the messages and asks for one acknowledgement, on the last command, so that a batch without a fault has an answer. */
  #stampBatch(messages: Buffer, op: string) {
    const starts: number[] = [];
    for (let at = 0; at < messages.length; at = (messageEnd(messages, at) + 3) & ~3) starts.push(at);
    const first = starts[0];
    const last = starts.at(-1);
    if (
      first === undefined ||
      last === undefined ||
      starts.length < 3 ||
      messages.readUInt16LE(first + 4) !== NFNL_MSG_BATCH_BEGIN ||
      messages.readUInt16LE(last + 4) !== NFNL_MSG_BATCH_END
    ) {
      throw malformed(op, 'a batch is NFNL_MSG_BATCH_BEGIN, at least one command, NFNL_MSG_BATCH_END');
    }
    if (this.#seq + starts.length >= 0xffff_ffff) this.#seq = 0;
    const firstSeq = this.#seq + 1;
    for (const at of starts) {
      this.#stamp(messages, at);
      messages.writeUInt16LE(messages.readUInt16LE(at + 6) | NLM_F_REQUEST, at + 6);
    }
    const lastCommand = starts[starts.length - 2]!;
    messages.writeUInt16LE(messages.readUInt16LE(lastCommand + 6) | NLM_F_ACK, lastCommand + 6);
    return { starts, firstSeq, lastCommandSeq: firstSeq + starts.length - 2 };
  }

  #send(buffer: Buffer, op: string): void {
    this.#trace?.(`> sent\n${this.#format(buffer, this.#family)}`);
    // A message must fit the send buffer whole; the kernel keeps 32 bytes of it for itself.
    if (buffer.length + 32 > this.#sendBufferBytes) {
      const wanted = Math.max(128 << 10, buffer.length + 32);
      if (!this.#trySet(SOL_SOCKET, SO_SNDBUFFORCE, wanted)) this.#set(SOL_SOCKET, SO_SNDBUF, wanted);
      this.#sendBufferBytes = wanted;
    }
    while (libc().sendData(this.#descriptor.fd, buffer, buffer.length, 0) < 0) {
      const error = errno();
      if (error === EINTR) continue;
      throw new NetlinkError({ op, errno: error, syscall: 'send', message: `${buffer.length} bytes` });
    }
  }

  /** The answers to request `seq`; undefined for a dump that has to be made again. */
  #collect(request: Buffer, seq: number, op: string): NetlinkMessage[] | undefined {
    const deadline = performance.now() + this.#timeoutMs;
    const answers: NetlinkMessage[] = [];
    let bytes = 0;
    let interrupted = false;
    let fault: NetlinkError | undefined;
    for (;;) {
      this.#wait(deadline, op);
      const datagram = this.#receive();
      if (typeof datagram === 'number') {
        // A part of the answer is lost, but the end mark still comes: it has to be read, or the next dump meets EBUSY.
        fault ??= new NetlinkError({ op, errno: datagram, syscall: 'recv', message: 'a part of the answer is lost' });
        if (datagram !== ENOBUFS) throw fault;
        continue;
      }
      if (datagram === undefined) continue;
      for (const message of readMessages(datagram)) {
        // The tail of an earlier request that was given up.
        if (message.seq !== seq) continue;
        if ((message.flags & NLM_F_DUMP_INTR) !== 0) interrupted = true;
        if (message.type === NLMSG_ERROR || message.type === NLMSG_DONE) {
          const ack = readAcknowledgement(message);
          if (fault !== undefined) throw fault;
          if (ack.errno !== 0) throw refusal(ack, op, request, this.#headerBytes(request));
          return interrupted ? undefined : answers;
        }
        if (message.type === NLMSG_NOOP) continue;
        if (message.type === NLMSG_OVERRUN) fault ??= malformed(op, 'the kernel lost data (NLMSG_OVERRUN)');
        bytes += message.payload.length;
        if (bytes > this.#maxReplyBytes) {
          answers.length = 0;
          fault ??= new NetlinkError({
            op,
            code: 'ERR_NETLINK_REPLY_LIMIT',
            message: `the answer to ${this.#typeName(request)} is larger than ${this.#maxReplyBytes} bytes`,
          });
        }
        if (fault === undefined) answers.push(message);
      }
    }
  }

  /** A batch is carried out inside `sendmsg`, so whatever the kernel has to say is there already. */
  #collectBatch(messages: Buffer, starts: readonly number[], firstSeq: number, lastSeq: number, op: string): void {
    const deadline = performance.now() + this.#timeoutMs;
    let fault: NetlinkError | undefined;
    let lost = false;
    let acknowledged = false;
    while (true) {
      const answered = acknowledged || lost || fault !== undefined;
      if (!answered) this.#wait(deadline, op);
      const datagram = this.#receive(answered);
      if (datagram === undefined) continue;
      if (datagram === EAGAIN) break;
      if (typeof datagram === 'number') {
        if (datagram !== ENOBUFS) throw new NetlinkError({ op, errno: datagram, syscall: 'recv' });
        lost = true;
        continue;
      }
      for (const message of readMessages(datagram)) {
        const index = message.seq - firstSeq;
        if (message.type !== NLMSG_ERROR || index < 0 || index >= starts.length) continue;
        if (message.seq === lastSeq) acknowledged = true;
        const ack = readAcknowledgement(message);
        if (ack.errno === 0 || (fault !== undefined && fault.index! <= index)) continue;
        const at = starts[index]!;
        const request = messages.subarray(at, messageEnd(messages, at));
        fault = refusal(ack, op, request, this.#headerBytes(request), index);
      }
    }
    if (fault !== undefined) throw fault;
    if (!acknowledged) {
      throw new NetlinkError({
        op,
        errno: ENOBUFS,
        syscall: 'recv',
        message: 'the answers to the batch are lost, it may have been carried out',
      });
    }
  }

  #wait(deadline: number, op: string): void {
    for (;;) {
      const leftMs = Math.ceil(deadline - performance.now());
      if (leftMs > 0) {
        const ready = libc().poll(this.#pollfd, 1, leftMs);
        if (ready > 0) return;
        if (ready === 0) continue;
        const error = errno();
        if (error === EINTR) continue;
        throw new NetlinkError({ op, errno: error, syscall: 'poll' });
      }
      throw new NetlinkError({
        op,
        code: 'ERR_NETLINK_TIMEOUT',
        message: `the kernel did not answer within ${this.#timeoutMs} ms`,
      });
    }
  }

  /** One datagram in memory of its own; undefined for one that is not the kernel's; an errno where none could be read. */
  #receive(dontWait = false): Buffer | undefined | number {
    const wait = dontWait ? MSG_DONTWAIT : 0;
    const fd = this.#descriptor.fd;
    let length = libc().recvData(fd, this.#received, 0, MSG_PEEK | MSG_TRUNC | wait);
    if (length < 0) return this.#receiveErrno();
    if (length > this.#received.length) this.#received = Buffer.alloc(length);
    this.#senderLength[0] = SOCKADDR_NL_BYTES;
    length = libc().recvfrom(fd, this.#received, this.#received.length, wait, this.#sender, this.#senderLength);
    if (length < 0) return this.#receiveErrno();
    // Any process may send to a netlink port; only the kernel's is 0.
    if (this.#sender.readUInt32LE(4) !== 0) return undefined;
    const datagram = Buffer.from(this.#received.subarray(0, length));
    this.#trace?.(`< received\n${this.#format(datagram, this.#family)}`);
    return datagram;
  }

  #receiveErrno(): number | undefined {
    const error = errno();
    return error === EINTR ? undefined : error;
  }

  #headerBytes(request: Buffer): number {
    return fixedHeaderBytes(request.readUInt16LE(4), this.#family);
  }

  #typeName(request: Buffer): string {
    return messageTypeName(request.readUInt16LE(4), this.#family);
  }

  #set(level: number, option: number, value: number): void {
    if (!this.#trySet(level, option, value)) check(-1, 'setsockopt', this.#descriptor.subject, 'netlink.open');
  }

  #trySet(level: number, option: number, value: number): boolean {
    return libc().setsockopt(this.#descriptor.fd, level, option, Int32Array.of(value), 4) === 0;
  }
}

function malformed(op: string, message: string): NetlinkError {
  return new NetlinkError({ op, code: 'ERR_NETLINK_MALFORMED', message });
}
