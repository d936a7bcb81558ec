import { MessageChannel, type MessagePort, Worker } from 'node:worker_threads';
import { check, EFD_CLOEXEC, EFD_NONBLOCK, FileDescriptor, libc } from '../system/index.ts';
import { EngineError } from './engine-error.ts';

/** What a reactor thread finds as its `workerData`, beside what its starter adds. */
export interface ReactorThreadData {
  readonly port: MessagePort;
  readonly wakeFd: number;
}

/** Watches one {@link ReactorThread}. */
export interface ReactorThreadObserver<Out> {
  onMessage(message: Out): void;
  /** The thread is gone: `error` says why, unless it was asked to end. Once. */
  onExit(error: Error | undefined): void;
}

export interface ReactorThreadOptions {
  /**
   * The most that V8's young generation of this thread takes, MiB; default 24 (two halves of 8, and what is between). V8's own choice, 48, is
   * no faster here; 6 costs some 5 % where connections are short.
   */
  readonly youngGenerationMb?: number;
}

const DEFAULT_YOUNG_GENERATION_MB = 24;

const ONE = BigUint64Array.of(1n);

/** The main thread's end of a worker that runs a reactor: messages in, each followed by a wake-up; messages out. */
export class ReactorThread<In, Out> {
  readonly #worker: Worker;
  readonly #port: MessagePort;
  readonly #wake: FileDescriptor;
  readonly #exited: Promise<void>;
  #gone = false;

  /**
   * @param entry - the worker's module; it makes a `ReactorPort` of its {@link ReactorThreadData}
   * @param data - added to its `workerData`, cloned
   */
  constructor(
    entry: URL,
    data: Readonly<Record<string, unknown>>,
    observer: ReactorThreadObserver<Out>,
    options: ReactorThreadOptions = {},
  ) {
    this.#wake = new FileDescriptor(check(libc().eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK), 'eventfd'), 'eventfd');
    const channel = new MessageChannel();
    this.#port = channel.port1;
    this.#worker = new Worker(entry, {
      workerData: { ...data, port: channel.port2, wakeFd: this.#wake.fd } satisfies ReactorThreadData,
      transferList: [channel.port2],
      resourceLimits: { maxYoungGenerationSizeMb: options.youngGenerationMb ?? DEFAULT_YOUNG_GENERATION_MB },
    });
    this.#port.on('message', (message: Out) => observer.onMessage(message));
    let failure: Error | undefined;
    this.#worker.on('error', (error) => {
      failure = error instanceof Error ? error : new Error(String(error));
    });
    this.#exited = new Promise((resolve) => {
      this.#worker.on('exit', (code) => {
        this.#gone = true;
        this.#port.close();
        this.#wake.close();
        observer.onExit(failure ?? (code === 0 ? undefined : abnormalExit(code)));
        resolve();
      });
    });
  }

  /** Delivers `message` (structured clone) and wakes the reactor. Nothing happens once the thread is gone. */
  send(message: In): void {
    if (this.#gone) return;
    this.#port.postMessage(message);
    libc().write(this.#wake.fd, ONE as unknown as Uint8Array, 8);
  }

  /** Resolves when the thread has ended; ask it to by a message of its own protocol. */
  get exited(): Promise<void> {
    return this.#exited;
  }

  /** Ends the thread wherever it is. Its descriptors stay open until the process ends: for emergencies. */
  async terminate(): Promise<void> {
    await this.#worker.terminate();
  }
}

function abnormalExit(code: number): EngineError {
  return new EngineError({
    code: 'ERR_ENGINE_THREAD',
    op: 'engine.thread',
    message: `the reactor thread exited with ${code}`,
  });
}
