import type { SocketAddress } from '../ip/index.ts';
import {
  decodeSockaddr,
  EAGAIN,
  ECONNABORTED,
  EINTR,
  EPOLLIN,
  errno,
  type Libc,
  libc,
  resetOnClose,
  SOCK_CLOEXEC,
  SOCK_NONBLOCK,
  SOCKADDR_BYTES,
} from '../system/index.ts';
import type { Pollable, Reactor } from './reactor.ts';
import { Timer } from './timer-queue.ts';

/** Takes over accepted connections. */
export interface ConnectionAcceptor {
  /** `fd` is non-blocking and the acceptor's from here on; `source` is the peer. Where this throws and nobody watches `fd`, it is reset. */
  onConnection(fd: number, source: SocketAddress): void;
}

const ACCEPTS_PER_TURN = 64;
/** How long not to accept once descriptors or memory have run out. */
const PAUSE_MS = 100;

/** A listening socket in the reactor. Owns its descriptor. */
export class TcpListener implements Pollable {
  readonly fd: number;
  readonly #reactor: Reactor;
  readonly #acceptor: ConnectionAcceptor;
  readonly #libc: Libc = libc();
  readonly #address = Buffer.alloc(SOCKADDR_BYTES);
  readonly #addressLength = new Int32Array(1);
  readonly #pause = new Timer({ onExpired: () => this.#reactor.modify(this, EPOLLIN) });
  readonly #peer = Buffer.alloc(SOCKADDR_BYTES);
  /** Being handed over. */
  #accepted = -1;
  #open = true;

  /** @param fd - bound, listening and non-blocking */
  constructor(reactor: Reactor, fd: number, acceptor: ConnectionAcceptor) {
    this.fd = fd;
    this.#reactor = reactor;
    this.#acceptor = acceptor;
    reactor.add(this, EPOLLIN);
  }

  onEvents(): void {
    for (let count = 0; count < ACCEPTS_PER_TURN && this.#open; count++) {
      this.#addressLength[0] = SOCKADDR_BYTES;
      const fd = this.#libc.accept4(this.fd, this.#address, this.#addressLength, SOCK_NONBLOCK | SOCK_CLOEXEC);
      if (fd >= 0) {
        this.#accepted = fd;
        this.#acceptor.onConnection(fd, decodeSockaddr(this.#address));
        continue;
      }
      const reason = errno();
      if (reason === EINTR || reason === ECONNABORTED) continue;
      if (reason !== EAGAIN) this.#rest();
      return;
    }
  }

  /** The acceptor threw: a connection that nobody has taken would stay open, and its client wait. */
  onThrown(): void {
    const fd = this.#accepted;
    if (this.#reactor.watches(fd) || !this.#isAccepted(fd)) return;
    resetOnClose(fd);
    this.#libc.close(fd);
  }

  /** Its number may be another's, if the acceptor has closed it: the peer tells. */
  #isAccepted(fd: number): boolean {
    this.#peer.fill(0);
    this.#addressLength[0] = SOCKADDR_BYTES;
    return this.#libc.getpeername(fd, this.#peer, this.#addressLength) === 0 && this.#peer.equals(this.#address);
  }

  /** EMFILE, ENFILE, ENOBUFS, ENOMEM: the connection stays in the backlog, and epoll would announce it again at once. */
  #rest(): void {
    this.#reactor.modify(this, 0);
    this.#reactor.timers(PAUSE_MS).arm(this.#pause, this.#reactor.nowMs);
  }

  /** Stops listening; connections accepted before stay. */
  close(): void {
    if (!this.#open) return;
    this.#open = false;
    this.#pause.disarm();
    this.#reactor.forget(this);
    this.#libc.close(this.fd);
  }
}
