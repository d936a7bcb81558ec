import { fstatSync, stat, writeSync } from 'node:fs';
import { types } from 'node:util';
import { isMainThread } from 'node:worker_threads';
import {
  CLONE_NEWNET,
  check,
  errno,
  errnoName,
  type FileDescriptor,
  libc,
  O_CLOEXEC,
  O_RDONLY,
  openFile,
} from '../system/index.ts';
import { NetnsError } from './netns-error.ts';

/** The namespace of the calling thread: `/proc/self` would be the main thread's. */
const CURRENT = '/proc/thread-self/ns/net';

/**
 * A network namespace held open by a descriptor: it lives on, named or not, until {@link NetworkNamespace.close}.
 * Belongs to whoever opened it. May be used from the thread that opened it; another worker opens its own by name.
 */
export class NetworkNamespace {
  /** The name under /run/netns, where it was created or opened by name. */
  readonly name: string | undefined;
  /** Tells namespaces apart: two objects with the same inode are the same namespace. `4026531840` and up. */
  readonly inode: number;
  readonly #descriptor: FileDescriptor;

  /** @param descriptor - of an nsfs file; this object becomes its owner */
  constructor(descriptor: FileDescriptor, name?: string) {
    this.#descriptor = descriptor;
    this.inode = fstatSync(descriptor.fd).ino;
    this.name = name;
  }

  /** For calls that take a namespace by descriptor (`IFLA_NET_NS_FD`). Stays owned by this object. */
  get fd(): number {
    return this.#descriptor.fd;
  }

  get closed(): boolean {
    return this.#descriptor.closed;
  }

  /**
   * Calls `fn` with this thread inside the namespace and always returns to where the thread was; sockets made by `fn` stay in
   * the namespace for life. Synchronous only, since `setns` moves the thread and with it everything else that the thread would
   * run while waiting. May be nested. Where the way back fails, the process is aborted after one line on stderr.
   *
   * @param home - the namespace that the thread is in, where the caller is certain of it: asking the kernel is half of the cost
   * @throws {SystemError} `syscall: 'setns'` (`EPERM` without CAP_SYS_ADMIN); `fn` was not called
   * @throws {NetnsError} `ERR_NETNS_HOME` where `home` is closed; `ERR_NETNS_ASYNC` where `fn` is an async function (not called) or gives a promise back
   * @throws {AmbientError} `ERR_SYSTEM_CLOSED` after {@link close}
   */
  run<T>(fn: () => T, home?: NetworkNamespace): T {
    if (types.isAsyncFunction(fn)) throw asynchronous();
    settleThreadPool();
    using opened = home === undefined ? openFile(CURRENT, O_RDONLY | O_CLOEXEC) : undefined;
    const there = home ?? opened!;
    if (there.closed) throw homeless();
    check(libc().setns(this.#descriptor.fd, CLONE_NEWNET), 'setns', this.#descriptor.subject, 'netns.run');
    let result: T;
    try {
      result = fn();
    } finally {
      returnTo(there);
    }
    if (isThenable(result)) {
      // The caller gets our error; the promise's own failure must not take the process down on top of it.
      result.then(undefined, () => {});
      throw asynchronous();
    }
    return result;
  }

  /** Lets go of the namespace; a named one goes on existing. A second call does nothing. */
  close(): void {
    this.#descriptor.close();
  }

  [Symbol.dispose](): void {
    this.close();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.close();
  }
}

/** The namespace that the calling thread is in. Owned by the caller. */
export function currentNamespace(): NetworkNamespace {
  return new NetworkNamespace(openFile(CURRENT, O_RDONLY | O_CLOEXEC));
}

/** Calls `fn` in a namespace made for it, which ends with the last descriptor or mount that `fn` leaves behind. */
export function runInNewNamespace<T>(fn: () => T): T {
  settleThreadPool();
  using here = openFile(CURRENT, O_RDONLY | O_CLOEXEC);
  check(libc().unshare(CLONE_NEWNET), 'unshare', 'CLONE_NEWNET', 'netns.create');
  try {
    return fn();
  } finally {
    returnTo(here);
  }
}

function returnTo(home: FileDescriptor | NetworkNamespace): void {
  // A closed descriptor counts as a failed return: its number may belong to another namespace by now.
  if (!home.closed && libc().setns(home.fd, CLONE_NEWNET) === 0) return;
  const line = `ambient-kit: cannot return to the network namespace this thread came from (setns: ${errnoName(errno())}), aborting\n`;
  writeSync(2, line);
  if (isMainThread) process.abort();
  // process.abort() does not exist in workers, and a signal that the program may catch would let it go on.
  process.kill(process.pid, 'SIGKILL');
  for (;;) Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0);
}

function homeless(): NetnsError {
  return new NetnsError({
    code: 'ERR_NETNS_HOME',
    op: 'netns.run',
    message: 'the namespace to return to is closed: the thread was not moved',
  });
}

let threadPoolSettled = false;

/**
 * A thread is born in the namespace of its parent, and libuv starts its pool at the first file or DNS request: were that made
 * inside `run()`, every later `dns.lookup` of the process would be answered from that namespace.
 */
function settleThreadPool(): void {
  if (threadPoolSettled) return;
  threadPoolSettled = true;
  stat('/', () => {});
}

function isThenable(value: unknown): value is PromiseLike<unknown> {
  return value instanceof Object && typeof (value as { then?: unknown }).then === 'function';
}

function asynchronous(): NetnsError {
  return new NetnsError({
    code: 'ERR_NETNS_ASYNC',
    op: 'netns.run',
    message: 'the function must be synchronous: the thread leaves the namespace as soon as it returns',
  });
}
