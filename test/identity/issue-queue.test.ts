import { describe, expect, it } from 'vitest';
import { IssueQueue } from '../../src/identity/issue-queue.ts';

const drain = (queue: IssueQueue<string>): string[] => {
  const order: string[] = [];
  for (let item = queue.take(); item !== undefined; item = queue.take()) order.push(item);
  return order;
};

describe('IssueQueue, facts section 5', () => {
  it('gives the most urgent first, and within a priority the first come', () => {
    const queue = new IssueQueue<string>();
    queue.add('renewal', 'background');
    queue.add('pod 1', 'warmup');
    queue.add('pod 2', 'warmup');
    queue.add('waited for', 'real-time');
    expect(queue.size).toBe(4);
    expect(drain(queue)).toEqual(['waited for', 'pod 1', 'pod 2', 'renewal']);
  });

  it('holds an item once, and only ever raises it', () => {
    const queue = new IssueQueue<string>();
    queue.add('a', 'warmup');
    queue.add('b', 'warmup');
    queue.add('b', 'real-time');
    queue.add('b', 'background');
    queue.add('a', 'background');
    expect(queue.size).toBe(2);
    expect(queue.has('a')).toBe(true);
    expect(drain(queue)).toEqual(['b', 'a']);
    expect(queue.has('a')).toBe(false);
  });

  it('forgets', () => {
    const queue = new IssueQueue<string>();
    queue.add('a', 'warmup');
    queue.delete('a');
    expect(drain(queue)).toEqual([]);
  });
});
