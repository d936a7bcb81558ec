import {
  type Address,
  EAGAIN,
  EINPROGRESS,
  EPIPE,
  EPOLLERR,
  EPOLLET,
  EPOLLHUP,
  EPOLLIN,
  EPOLLOUT,
  EPOLLRDHUP,
  errno,
  errnoName,
  type Libc,
  libc,
  MSG_NOSIGNAL,
  resetOnClose,
  SHUT_WR,
  SO_ERROR,
  SOCKADDR_BYTES,
  SOL_SOCKET,
  tcpClosed,
} from '../system/index.ts';
import type { EngineMemory } from './engine-memory.ts';
import { PendingBytes, SEND_FAILED, SENT_ALL } from './pending-bytes.ts';
import type { Pollable, Reactor } from './reactor.ts';

/** What a leg tells the one who joined it to something. */
export interface LegOwner {
  /** The connection that the leg was made with stands. Once, before anything else, and only for a leg made connecting. */
  onLegConnected(leg: TcpLeg): void;
  /** There may be bytes, or the end, to {@link TcpLeg.read}. */
  onLegReadable(leg: TcpLeg): void;
  /** Bytes that had been pending went out; `leg.pendingBytes` says how many wait still. */
  onLegDrained(leg: TcpLeg, sentBytes: number): void;
  /** The socket takes bytes again, and none were pending here: for an owner that writes past {@link TcpLeg.write} (splice). */
  onLegWritable?(leg: TcpLeg): void;
  /** The connection is broken (or never came to stand): `reason` is an errno. Nothing follows. */
  onLegFailed(leg: TcpLeg, reason: number): void;
  /** One of these threw: the owner ends what it was about. Default: the leg is reset. */
  onLegThrown?(leg: TcpLeg, error: unknown): void;
}

/** {@link TcpLeg.read}: nothing there now; {@link LegOwner.onLegReadable} comes. */
export const LEG_AGAIN = -1;
/** {@link TcpLeg.read}: broken; the owner has been told by {@link LegOwner.onLegFailed}. */
export const LEG_FAILED = -2;

const ARRIVALS = EPOLLIN | EPOLLRDHUP | EPOLLET;

/**
 * One plain TCP connection in the reactor. Edge-triggered: registered once, and once more when the socket is full for the first time,
 * since hardly any ever is and a fresh one would be announced as writable for nothing. What the kernel announced is kept in flags until
 * it is used up. Bytes that the socket does not take wait in chunks, and are the owner's to bound.
 *
 * Owns the descriptor from the constructor on, and closes it where that throws. Its options are its maker's, TCP_NODELAY first of all:
 * `ambient-kit/socket` sets it.
 */
export class TcpLeg implements Pollable {
  readonly fd: number;
  readonly #reactor: Reactor;
  readonly #libc: Libc = libc();
  readonly #owner: LegOwner;
  readonly #memory: EngineMemory;
  #pending: PendingBytes | undefined;
  #connecting: boolean;
  #open = true;
  #finWanted = false;
  #hangup = false;
  /** False until the kernel announces something, and after a read came back short: then only a new edge can bring more. */
  #readable = false;
  /** Is the reactor to tell when the socket has room? */
  #watchesRoom: boolean;

  constructor(reactor: Reactor, memory: EngineMemory, fd: number, owner: LegOwner, connecting: boolean) {
    this.fd = fd;
    this.#reactor = reactor;
    this.#memory = memory;
    this.#owner = owner;
    this.#connecting = connecting;
    this.#watchesRoom = connecting;
    try {
      reactor.add(this, connecting ? ARRIVALS | EPOLLOUT : ARRIVALS);
    } catch (error) {
      this.close();
      throw error;
    }
  }

  get open(): boolean {
    return this.#open;
  }

  get connecting(): boolean {
    return this.#connecting;
  }

  /** May {@link read} bring something? */
  get readable(): boolean {
    return this.#readable && this.#open && !this.#connecting;
  }

  /** Bytes taken by {@link write} that the socket has not taken yet. */
  get pendingBytes(): number {
    return this.#pending?.length ?? 0;
  }

  onEvents(events: number): void {
    if (!this.#open) return;
    if (this.#connecting) {
      const reason = this.#socketError();
      if (reason === EINPROGRESS || (reason === 0 && (events & (EPOLLOUT | EPOLLHUP | EPOLLERR)) === 0)) return;
      if (reason !== 0) return this.#fail(reason);
      this.#connecting = false;
      // FIN asked for while there was no connection to send it on. With bytes pending it follows them, in #drain.
      if (this.#finWanted && this.pendingBytes === 0) this.#libc.shutdown(this.fd, SHUT_WR);
      this.#owner.onLegConnected(this);
      if (!this.#open) return;
    } else if ((events & EPOLLERR) !== 0) {
      // A reset also empties the way back, so it is told at once, even while flow control keeps the owner from reading.
      return this.#fail(this.#socketError() || EPIPE);
    }
    if ((events & EPOLLOUT) !== 0) {
      if (this.#pending !== undefined) this.#drain(this.#pending);
      else this.#owner.onLegWritable?.(this);
    }
    if (this.#open && (events & (EPOLLIN | EPOLLRDHUP | EPOLLHUP)) !== 0) {
      this.#readable = true;
      if ((events & (EPOLLRDHUP | EPOLLHUP)) !== 0) this.#hangup = true;
      this.#owner.onLegReadable(this);
    }
  }

  onThrown(error: unknown): void {
    if (this.#owner.onLegThrown === undefined) this.abort();
    else this.#owner.onLegThrown(this, error);
  }

  /**
   * Reads up to `length` bytes to `to`.
   *
   * @returns their number, 0 at the end, {@link LEG_AGAIN}, or {@link LEG_FAILED}
   */
  read(to: Address, length: number): number {
    if (!this.#open) return LEG_FAILED;
    const count = this.#libc.recv(this.fd, to, length, 0);
    if (count < 0) return this.#readFailed(errno());
    this.#reactor.tellRead(count);
    // A short read has emptied the socket, unless the end stands behind it, which no new edge would announce.
    if (count < length && !this.#hangup) this.#readable = false;
    return count;
  }

  /** What follows a read that was not made by {@link read} (splice) and brought something. */
  wasRead(bytes: number): void {
    this.#reactor.tellRead(bytes);
  }

  /** What follows a read that was not made by {@link read} (splice): EAGAIN or broken. */
  readFailed(reason: number): typeof LEG_AGAIN | typeof LEG_FAILED {
    return this.#readFailed(reason);
  }

  /** What follows a failed write, also one that was not made by {@link write} (splice). @returns whether the leg is broken, and its owner told */
  writeFailed(reason: number): boolean {
    if (!this.#broken(reason)) {
      this.#watchRoom();
      return false;
    }
    this.#fail(reason);
    return true;
  }

  /**
   * Sends `buffer[start, end)`, whose first byte is at address `base`; keeps a copy of what the socket does not take.
   *
   * @returns the bytes that went out now; -1 when broken ({@link LegOwner.onLegFailed} was called)
   */
  write(buffer: Buffer, base: Address, start: number, end: number): number {
    if (!this.#open) return -1;
    let sent = 0;
    if (this.pendingBytes === 0 && !this.#connecting) {
      sent = this.#libc.send(this.fd, base + start, end - start, MSG_NOSIGNAL);
      if (sent === end - start) return sent;
      if (sent < 0) {
        if (this.writeFailed(errno())) return -1;
        sent = 0;
      } else this.#watchRoom();
    }
    this.#pending ??= new PendingBytes(this.#memory.chunks);
    this.#pending.append(buffer, start + sent, end);
    return sent;
  }

  /** Sends FIN, after what is pending. */
  finish(): void {
    if (!this.#open) return;
    if (this.pendingBytes > 0 || this.#connecting) this.#finWanted = true;
    else this.#libc.shutdown(this.fd, SHUT_WR);
  }

  /** Closes; unread bytes in the socket make the kernel send RST instead of FIN (RFC 2525 section 2.17). */
  close(): void {
    if (!this.#open) return;
    this.#open = false;
    this.#pending?.clear();
    this.#reactor.forget(this);
    this.#libc.close(this.fd);
  }

  /** Closes with RST: the other side must not take what it has for the whole. */
  abort(): void {
    if (!this.#open) return;
    resetOnClose(this.fd);
    this.close();
  }

  #drain(pending: PendingBytes): void {
    const outcome = pending.sendTo(this.fd);
    if (outcome === SEND_FAILED && this.writeFailed(errno())) return;
    if (outcome === SENT_ALL) {
      this.#pending = undefined;
      if (this.#finWanted) this.#libc.shutdown(this.fd, SHUT_WR);
    }
    if (pending.sent > 0) this.#owner.onLegDrained(this, pending.sent);
  }

  #readFailed(reason: number): typeof LEG_AGAIN | typeof LEG_FAILED {
    if (!this.#broken(reason)) {
      this.#readable = false;
      return LEG_AGAIN;
    }
    this.#fail(reason);
    return LEG_FAILED;
  }

  /** An error that is to be believed: see {@link tcpClosed}. */
  #broken(reason: number): boolean {
    return reason !== EAGAIN && tcpClosed(this.fd);
  }

  /** Once the socket was full: writable edges are asked for from now on. The kernel tells at once where there is room again already. */
  #watchRoom(): void {
    if (this.#watchesRoom) return;
    this.#watchesRoom = true;
    this.#reactor.modify(this, ARRIVALS | EPOLLOUT);
  }

  #socketError(): number {
    const { option, optionLength } = this.#memory;
    option[0] = 0;
    optionLength[0] = 4;
    this.#libc.getsockopt(this.fd, SOL_SOCKET, SO_ERROR, option, optionLength);
    return option[0];
  }

  #fail(reason: number): void {
    if (!this.#open) return;
    this.#owner.onLegFailed(this, reason);
    this.close();
  }
}

/**
 * Does a connection stand that `connect(2)` was called for? A peer on this machine has usually answered within the call: whoever asks
 * here need not wait for an event.
 */
export function isConnected(memory: EngineMemory, fd: number): boolean {
  const { address, addressLength } = memory;
  addressLength[0] = SOCKADDR_BYTES;
  return libc().getpeername(fd, address, addressLength) === 0;
}

/** `ECONNRESET` as the access log says it. */
export function describeErrno(reason: number): string {
  return errnoName(reason);
}
