import { libc, openssl } from '../../src/system/index.ts';

type Call = (...args: number[]) => number;
type Calls = Record<string, Call>;

/** Which of its arguments are descriptors. */
const TAKES_DESCRIPTORS: Readonly<Record<string, readonly number[]>> = {
  ...Object.fromEntries(
    ['setsockopt', 'getsockopt', 'bind', 'listen', 'connect', 'accept4', 'getsockname', 'shutdown'].map((name) => [
      name,
      [0],
    ]),
  ),
  ...Object.fromEntries(['read', 'write', 'fcntl', 'recv', 'send', 'recvData', 'sendData'].map((name) => [name, [0]])),
  splice: [0, 2],
  epoll_ctl: [0, 2],
  epoll_wait: [0],
};
const GIVES_A_DESCRIPTOR = ['socket', 'accept4', 'epoll_create1', 'eventfd'];
const TAKES_A_CONNECTION = [
  ...['SSL_set_accept_state', 'SSL_set_connect_state', 'SSL_set_bio', 'SSL_do_handshake', 'SSL_read', 'SSL_write'],
  ...['SSL_has_pending', 'SSL_shutdown', 'SSL_get_error', 'SSL_get_version', 'SSL_ctrl', 'SSL_get_current_cipher'],
];

/**
 * Stands before the system's functions and keeps the books: what is open, and who uses or closes what is not (any more). Valgrind's idea, for
 * the two kinds of handles that the engine gets by FFI. Handles from before are nobody's business.
 */
export class HandleWatch implements Disposable {
  readonly descriptors = new Set<number>();
  /** `SSL` objects, by address. */
  readonly connections = new Set<number>();
  /** Where a handle was used that is not open, at most ten. */
  readonly misuses: string[] = [];
  connectionsMade = 0;
  readonly #restore: (() => void)[] = [];

  constructor() {
    const system = libc() as unknown as Calls;
    for (const [name, places] of Object.entries(TAKES_DESCRIPTORS)) {
      this.#before(system, name, (args) => {
        for (const place of places) if (!this.descriptors.has(args[place]!)) this.#misused(name, args[place]!);
      });
    }
    for (const name of GIVES_A_DESCRIPTOR) this.#after(system, name, (fd) => fd >= 0 && this.descriptors.add(fd));
    this.#after(system, 'pipe2', (result, [ends]) => {
      if (result === 0) for (const fd of ends as unknown as Int32Array) this.descriptors.add(fd);
    });
    this.#before(system, 'close', ([fd]) => {
      if (!this.descriptors.delete(fd!)) this.#misused('close', fd!);
    });
    const tls = openssl() as unknown as Calls;
    for (const name of TAKES_A_CONNECTION) {
      this.#before(tls, name, ([ssl]) => {
        if (!this.connections.has(ssl!)) this.#misused(name, ssl!);
      });
    }
    this.#after(tls, 'SSL_new', (ssl) => {
      this.connectionsMade++;
      this.connections.add(ssl);
    });
    this.#before(tls, 'SSL_free', ([ssl]) => {
      if (!this.connections.delete(ssl!)) this.#misused('SSL_free', ssl!);
    });
  }

  [Symbol.dispose](): void {
    for (const restore of this.#restore.reverse()) restore();
  }

  #misused(name: string, handle: number): void {
    if (this.misuses.length < 10) this.misuses.push(new Error(`${name}(${handle})`).stack ?? name);
  }

  #before(calls: Calls, name: string, look: (args: number[]) => void): void {
    this.#replace(calls, name, (original) => (...args) => {
      look(args);
      return original(...args);
    });
  }

  #after(calls: Calls, name: string, look: (result: number, args: number[]) => void): void {
    this.#replace(calls, name, (original) => (...args) => {
      const result = original(...args);
      look(result, args);
      return result;
    });
  }

  #replace(calls: Calls, name: string, make: (original: Call) => Call): void {
    const original = calls[name]!;
    calls[name] = make(original);
    this.#restore.push(() => {
      calls[name] = original;
    });
  }
}
