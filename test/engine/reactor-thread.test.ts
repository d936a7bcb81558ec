import { MessageChannel } from 'node:worker_threads';
import { describe, expect, it } from 'vitest';
import { Reactor, ReactorPort, ReactorThread } from '../../src/engine/index.ts';
import { EFD_NONBLOCK, libc } from '../../src/system/index.ts';
import { openDescriptors } from './turning.ts';

const ENTRY = new URL('./echo-reactor.ts', import.meta.url);

async function expectDescriptors(count: number): Promise<void> {
  // Node closes a worker's own descriptors a moment after its exit.
  for (let wait = 0; wait < 200 && openDescriptors() > count; wait++) await new Promise((done) => setTimeout(done, 5));
  expect(openDescriptors()).toBe(count);
}

function start() {
  const heard: string[] = [];
  const exits: (Error | undefined)[] = [];
  let waiting: { count: number; resolve: () => void } | undefined;
  const thread = new ReactorThread<string, string>(
    ENTRY,
    { greeting: 'to you too' },
    {
      onMessage: (message) => {
        heard.push(message);
        if (waiting !== undefined && heard.length >= waiting.count) waiting.resolve();
      },
      onExit: (error) => exits.push(error),
    },
  );
  const hear = (count: number) =>
    new Promise<void>((resolve) => {
      waiting = { count, resolve };
      if (heard.length >= count) resolve();
    });
  return { thread, heard, exits, hear };
}

describe('ReactorThread and ReactorPort', () => {
  it('wakes a thread that sits in epoll_wait, and hears every message in order', async () => {
    const descriptors = openDescriptors();
    const { thread, heard, exits, hear } = start();
    thread.send('hello');
    await hear(1);
    expect(heard).toEqual(['hello to you too']);
    for (let index = 0; index < 500; index++) thread.send(`${index}`);
    await hear(501);
    expect(heard.slice(1)).toEqual(Array.from({ length: 500 }, (_, index) => `${index} to you too`));
    thread.send('stop');
    await thread.exited;
    expect(exits).toEqual([undefined]);
    thread.send('to nobody');
    await expectDescriptors(descriptors);
  });

  it('takes what was sent before it ran', async () => {
    const { thread, heard, exits } = start();
    for (const message of ['one', 'two', 'stop']) thread.send(message);
    await thread.exited;
    await new Promise((done) => setImmediate(done));
    expect(heard).toEqual(['one to you too', 'two to you too']);
    expect(exits).toEqual([undefined]);
  });

  it.each([
    ['throw', { message: 'told to' }],
    ['exit', { code: 'ERR_ENGINE_THREAD', message: 'engine.thread: the reactor thread exited with 3' }],
  ])('says why a thread ended that was not asked to: %s', async (how, error) => {
    const { thread, exits } = start();
    thread.send(how);
    await thread.exited;
    expect(exits).toEqual([expect.objectContaining(error)]);
  });
});

describe('ReactorPort', () => {
  it('a message that its receiver fails on is told of, and those behind it are received', () => {
    const seen: unknown[] = [];
    const reactor = new Reactor({ onUncaught: (error) => seen.push(String(error)) });
    const { port1, port2 } = new MessageChannel();
    const fd = libc().eventfd(3, EFD_NONBLOCK);
    const port = new ReactorPort<number, never>(reactor, fd, port2, (message) => {
      if (message < 3) throw new Error(`not ${message}`);
      seen.push(message);
    });
    for (const message of [1, 2, 3, 4]) port1.postMessage(message);
    for (let turn = 0; turn < 3; turn++) reactor.turn(0);
    expect(seen).toEqual(['Error: not 1', 'Error: not 2', 3, 4]);
    port.close();
    port1.close();
    libc().close(fd);
    reactor.close();
  });
});
