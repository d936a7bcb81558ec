import { describe, expect, it, vi } from 'vitest';
import {
  FakeNotifications,
  messageTypeName,
  NFNLGRP_NFTABLES,
  type Notifications,
  openNetlink,
  openNotifications,
  RTNLGRP_IPV4_RULE,
  RTNLGRP_LINK,
  subscribe,
} from '../../src/netlink/index.ts';
import { Batch } from '../../src/netlink/nftables/index.ts';
import { addLink, addRule, deleteLink } from '../../src/netlink/route/index.ts';
import { withNamespaces } from '../support/namespaces.ts';
import { describeRequiring } from '../support/require.ts';

const root = { root: true };
const message = { type: 32, payload: Buffer.alloc(12) };

describe('subscribe', () => {
  it('hands over what came, and stays silent where nothing did', () => {
    vi.useFakeTimers();
    try {
      const source = new FakeNotifications();
      const seen: Notifications[] = [];
      using subscription = subscribe(source, {
        intervalMs: 10,
        onNotifications: (n) => seen.push(n),
        onError: () => {},
      });
      vi.advanceTimersByTime(30);
      expect(seen).toEqual([]);
      source.push(message, message);
      vi.advanceTimersByTime(10);
      source.lose();
      vi.advanceTimersByTime(10);
      expect(seen.map(({ messages, lost }) => [messages.length, lost])).toEqual([
        [2, false],
        [0, true],
      ]);
      subscription.close();
      source.push(message);
      vi.advanceTimersByTime(100);
      expect(seen).toHaveLength(2);
      expect(source.closed).toBe(true);
    } finally {
      vi.useRealTimers();
    }
  });

  it('ends, and says so, where its source fails', () => {
    vi.useFakeTimers();
    try {
      const source = new FakeNotifications();
      const errors: unknown[] = [];
      subscribe(source, { onNotifications: () => {}, onError: (error) => errors.push(error) });
      source.fail(new Error('gone'));
      vi.advanceTimersByTime(1000);
      expect(errors).toEqual([new Error('gone')]);
      expect(source.closed).toBe(true);
    } finally {
      vi.useRealTimers();
    }
  });

  it('closes its source when its signal aborts, also where it had already', () => {
    const abort = new AbortController();
    const first = new FakeNotifications();
    subscribe(first, { signal: abort.signal, onNotifications: () => {}, onError: () => {} });
    abort.abort();
    expect(first.closed).toBe(true);
    const second = new FakeNotifications();
    subscribe(second, { signal: abort.signal, onNotifications: () => {}, onError: () => {} });
    expect(second.closed).toBe(true);
  });

  it.each([
    ['groups', { family: 'route', groups: [] }],
    ['groups[1]', { family: 'route', groups: [1, 65] }],
    ['receiveBufferBytes', { family: 'route', groups: [1], receiveBufferBytes: 0 }],
  ] as const)('names the field %s', (field, options) => {
    expect(() => openNotifications(options)).toThrow(expect.objectContaining({ code: 'ERR_NETLINK_INVALID', field }));
  });
});

describeRequiring('openNotifications', root, () => {
  it('hears of links and policy rules of its namespace, and of no other', async () => {
    await withNamespaces(['here', 'there'], (here, there) => {
      using source = openNotifications({ family: 'route', groups: [RTNLGRP_LINK, RTNLGRP_IPV4_RULE], namespace: here });
      using onThere = openNetlink({ family: 'route', namespace: there });
      addLink(onThere, { kind: 'bridge', name: 'br0' });
      expect(source.receive()).toEqual({ messages: [], lost: false });
      using onHere = openNetlink({ family: 'route', namespace: here });
      addLink(onHere, { kind: 'bridge', name: 'br0' });
      addRule(onHere, { family: 4, priority: 100, table: 100 });
      deleteLink(onHere, 'br0');
      const names = source.receive().messages.map(({ type }) => messageTypeName(type, 'route'));
      expect(names).toEqual(expect.arrayContaining(['RTM_NEWLINK', 'RTM_NEWRULE', 'RTM_DELLINK']));
    });
  });

  it('hears of nftables, transaction by transaction', async () => {
    await withNamespaces(['here'], (here) => {
      using source = openNotifications({ family: 'netfilter', groups: [NFNLGRP_NFTABLES], namespace: here });
      using netlink = openNetlink({ family: 'netfilter', namespace: here });
      new Batch().addTable({ family: 'ip', name: 'watched' }).commit(netlink);
      // NFT_MSG_NEWTABLE, then NFT_MSG_NEWGEN, which ends every transaction.
      const names = source.receive().messages.map(({ type }) => messageTypeName(type, 'netfilter'));
      expect(names).toEqual(['NFTABLES/0', 'NFTABLES/15']);
    });
  });

  it('says that it lost something when its buffer was too small, and goes on', async () => {
    await withNamespaces(['here'], (here) => {
      using source = openNotifications({
        family: 'route',
        groups: [RTNLGRP_IPV4_RULE],
        namespace: here,
        receiveBufferBytes: 1,
      });
      using netlink = openNetlink({ family: 'route', namespace: here });
      for (let priority = 1; priority <= 100; priority++) addRule(netlink, { family: 4, priority, table: 100 });
      expect(source.receive().lost).toBe(true);
      expect(source.receive().lost).toBe(false);
      addRule(netlink, { family: 4, priority: 200, table: 100 });
      expect(source.receive()).toMatchObject({ messages: [{ type: 32 }], lost: false });
    });
  });
});
