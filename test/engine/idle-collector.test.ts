import { once } from 'node:events';
import { Worker } from 'node:worker_threads';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { IdleCollector, type IdleCollectorOptions, Reactor } from '../../src/engine/index.ts';

describe('IdleCollector', () => {
  let reactor: Reactor;
  let collector: IdleCollector | undefined;
  let heapBytes: number;
  let collections: number;

  beforeEach(() => {
    reactor = new Reactor();
    heapBytes = 20 << 20;
    collections = 0;
  });
  afterEach(() => {
    collector?.close();
    reactor.close();
  });

  function start(options: IdleCollectorOptions = {}): void {
    const collect = () => {
      collections++;
      heapBytes = 10 << 20;
    };
    collector = new IdleCollector(reactor, { idleMs: 10, collect, heapBytes: () => heapBytes, ...options });
  }

  function turnFor(ms: number, each: () => void = () => {}): void {
    for (const end = performance.now() + ms; performance.now() < end; ) {
      each();
      reactor.turn(2);
    }
  }

  it('collects once nothing has happened for a while, and not again before the heap has grown', () => {
    start();
    turnFor(80);
    expect(collections).toBe(1);
    heapBytes += (1 << 20) - 1;
    turnFor(60);
    expect(collections).toBe(1);
    heapBytes += 1;
    turnFor(60);
    expect(collections).toBe(2);
  });

  it('collects after much work too, which may have left the heap as it was', () => {
    let events = 0;
    Object.defineProperty(reactor, 'eventsSeen', { get: () => events });
    start();
    turnFor(60);
    events = 999;
    turnFor(60);
    expect(collections).toBe(1);
    events = 1000;
    turnFor(60);
    expect(collections).toBe(2);
  });

  it('gives back what is free behind that, and twice more', () => {
    const order: string[] = [];
    const collect = () => {
      order.push('collect');
      heapBytes = 10 << 20;
    };
    start({ collect, release: () => order.push('release') });
    turnFor(120);
    expect(order).toEqual(['collect', 'release', 'release', 'release']);
  });

  it('does not while there is something to do', () => {
    const busy = Object.defineProperty(reactor, 'eventsSeen', { get: () => performance.now() });
    start();
    turnFor(80);
    expect([busy.eventsSeen > 0, collections]).toEqual([true, 0]);
  });

  it('leaves a heap to V8 that it would take long to go through', () => {
    start({ mostHeapBytes: 20 << 20 });
    heapBytes++;
    turnFor(60);
    expect(collections).toBe(0);
    heapBytes--;
    turnFor(60);
    expect(collections).toBe(1);
  });

  it('collects real garbage by default', () => {
    const weak: WeakRef<object>[] = [];
    (() => {
      for (let index = 0; index < 10; index++) weak.push(new WeakRef({ index }));
    })();
    collector = new IdleCollector(reactor, { idleMs: 10, growthBytes: 0 });
    return new Promise<void>((resolve) => setTimeout(resolve, 0)).then(() => {
      turnFor(100);
      expect(weak.filter((reference) => reference.deref() !== undefined)).toEqual([]);
    });
  });
});

it('is made by several threads at once: what V8 is told counts for all of them', async () => {
  const page = new URL('../../src/engine/index.ts', import.meta.url).href;
  const make = `import(${JSON.stringify(page)}).then(({ IdleCollector, Reactor }) => {
    const reactor = new Reactor();
    for (let i = 0; i < 200; i++) new IdleCollector(reactor).close();
    reactor.close();
  })`;
  const threads = Array.from({ length: 4 }, () => new Worker(make, { eval: true }));
  expect(await Promise.all(threads.map((thread) => once(thread, 'exit')))).toEqual([[0], [0], [0], [0]]);
});
