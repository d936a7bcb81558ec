import { type MessagePort, receiveMessageOnPort } from 'node:worker_threads';
import { EPOLLIN, libc } from '../system/index.ts';
import type { Deferred, Pollable, Reactor } from './reactor.ts';

/**
 * The reactor's end of the channel to the main thread. A thread that sits in `epoll_wait` runs none of Node's own events, so the main
 * thread writes to an eventfd after each message; that wakes the reactor, which takes the messages from the port itself.
 */
export class ReactorPort<In, Out> implements Pollable, Deferred {
  readonly fd: number;
  deferred = false;
  readonly #reactor: Reactor;
  readonly #port: MessagePort;
  readonly #receive: (message: In) => void;
  readonly #counter = new BigUint64Array(1);

  /** @param fd - the eventfd, non-blocking; the main thread's to close */
  constructor(reactor: Reactor, fd: number, port: MessagePort, receive: (message: In) => void) {
    this.fd = fd;
    this.#reactor = reactor;
    this.#port = port;
    this.#receive = receive;
    reactor.add(this, EPOLLIN);
  }

  onEvents(): void {
    libc().read(this.fd, this.#counter as unknown as Uint8Array, 8);
    this.onDeferred();
  }

  onDeferred(): void {
    for (let got = receiveMessageOnPort(this.#port); got !== undefined; got = receiveMessageOnPort(this.#port)) {
      this.#receive(got.message as In);
    }
  }

  /** A message could not be dealt with. Those behind it can; they are not announced again. */
  onThrown(): void {
    this.#reactor.defer(this);
  }

  /** To the main thread; works while this one never returns to Node's event loop. */
  send(message: Out): void {
    this.#port.postMessage(message);
  }

  close(): void {
    this.#reactor.remove(this);
    this.#port.close();
  }
}
