import { describe, expect, it } from 'vitest';
import { ReactorThread } from '../../src/engine/index.ts';
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
