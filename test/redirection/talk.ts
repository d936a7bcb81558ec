import type { Socket } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import type { NetworkNamespace } from '../../src/netns/index.ts';
import { connect } from '../../src/socket/index.ts';

const BLOCK = Buffer.alloc(1024, 'x');

/** A connection to a server that echoes, which never rests: it sends a block, waits for all of it, and sends the next. */
export class Talk {
  readonly what: string;
  readonly #socket: Socket;
  /** Blocks that came back. */
  echoed = 0;
  /** Why it ended, unless by `end()`. */
  broke: string | undefined;

  constructor(what: string, socket: Socket) {
    this.what = what;
    this.#socket = socket;
    let waiting = BLOCK.length;
    socket.on('data', ({ length }) => {
      waiting -= length;
      if (waiting > 0) return;
      this.echoed++;
      waiting = BLOCK.length;
      socket.write(BLOCK);
    });
    const onEnd = (why: string) => {
      this.broke ??= why;
    };
    socket.on('error', (error) => onEnd(String((error as { code?: unknown }).code)));
    socket.on('close', () => onEnd('closed'));
    socket.write(BLOCK);
  }

  static async open(what: string, namespace: NetworkNamespace, host: string, port = 80): Promise<Talk> {
    return new Talk(what, await connect({ namespace, host, port, timeoutMs: 3000 }));
  }

  end(): void {
    this.#socket.removeAllListeners('close').destroy();
  }
}

/** Which of them are no good any more: broke, or bring no block back within `withinMs`. */
export async function stuck(talks: readonly Talk[], withinMs = 3000): Promise<string[]> {
  const before = talks.map(({ echoed }) => echoed);
  // More than a block, so that what came back was sent after the change that is looked at.
  const stands = (talk: Talk, i: number) => talk.echoed <= before[i]! + 1;
  for (const until = performance.now() + withinMs; performance.now() < until && talks.some(stands); ) await sleep(20);
  return talks.flatMap((talk, i) =>
    talk.broke !== undefined ? [`${talk.what} ${talk.broke}`] : stands(talk, i) ? [`${talk.what} stands still`] : [],
  );
}
