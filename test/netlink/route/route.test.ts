import { describe, expect, it } from 'vitest';
import { FakeNetlink, openNetlink, readMessages } from '../../../src/netlink/index.ts';
import { RTM_DELROUTE, RTM_NEWROUTE } from '../../../src/netlink/route/constants.ts';
import {
  addAddress,
  addLink,
  addRoute,
  deleteRoute,
  listRoutes,
  type Route,
  replaceRoute,
  setLink,
} from '../../../src/netlink/route/index.ts';
import { decodeRoute, encodeRoute } from '../../../src/netlink/route/route.ts';
import type { NetworkNamespace } from '../../../src/netns/index.ts';
import { runIn, withNamespaces } from '../../support/namespaces.ts';
import { describeRequiring } from '../../support/require.ts';
import { hex, shapeOf } from '../golden.ts';

const ADD = 0x600;
const REPLACE = 0x500;
const INDEXES = new Map([
  ['lo', 1],
  ['v0', 3],
]);

describe('encodeRoute, against the traffic of ip 6.1', () => {
  it.each<[string, number, number, Route, string]>([
    [
      'ip route add 10.2.0.0/16 via 10.1.0.2 dev v0 onlink table 101 src 10.1.0.1 metric 5',
      RTM_NEWROUTE,
      ADD,
      {
        destination: '10.2.0.0/16',
        gateway: '10.1.0.2',
        device: 'v0',
        onlink: true,
        table: 101,
        source: '10.1.0.1',
        metric: 5,
      },
      `44000000180005064738026b00000000 021000006503000104000000
       080001000a020000 080005000a010002 080007000a010001 0800060005000000 0800040003000000`,
    ],
    [
      'ip route add local default dev lo table 100',
      RTM_NEWROUTE,
      ADD,
      { destination: '0.0.0.0/0', type: 'local', device: 'lo', table: 100 },
      '24000000180005064738026b00000000 020000006403fe0200000000 0800040001000000',
    ],
    [
      'ip route add blackhole 10.9.0.0/16 table 100000',
      RTM_NEWROUTE,
      ADD,
      { destination: '10.9.0.0/16', type: 'blackhole', table: 100_000 },
      '2c000000180005064738026b00000000 021000000003000600000000 080001000a090000 08000f00a0860100',
    ],
    [
      'ip route add 10.1.0.5/32 dev v0 scope link',
      RTM_NEWROUTE,
      ADD,
      { destination: '10.1.0.5/32', device: 'v0' },
      '2c000000180005064738026b00000000 02200000fe03fd0100000000 080001000a010005 0800040003000000',
    ],
    [
      'ip route add default via fd00::2 dev v0 table 101',
      RTM_NEWROUTE,
      ADD,
      { destination: '::/0', gateway: 'fd00::2', device: 'v0', table: 101 },
      '38000000180005064738026b00000000 0a0000006503000100000000 14000500fd000000000000000000000000000002 0800040003000000',
    ],
    [
      'ip route replace 10.3.0.0/16 nexthop via 10.1.0.2 dev v0 weight 2 nexthop via 10.1.0.3 dev v0',
      RTM_NEWROUTE,
      REPLACE,
      {
        destination: '10.3.0.0/16',
        nextHops: [
          { gateway: '10.1.0.2', device: 'v0', weight: 2 },
          { gateway: '10.1.0.3', device: 'v0' },
        ],
      },
      `48000000180005054738026b00000000 02100000fe03000100000000 080001000a030000
       24000900 1000000103000000 080005000a010002 1000000003000000 080005000a010003`,
    ],
    [
      'ip route add 10.4.0.0/16 via inet6 fd00::9 dev v0',
      RTM_NEWROUTE,
      ADD,
      { destination: '10.4.0.0/16', gateway: 'fd00::9', device: 'v0' },
      `44000000180005064738026b00000000 02100000fe03000100000000 080001000a040000
       16001200 0a00fd0000000000000000000000000000090000 0800040003000000`,
    ],
    [
      'ip route del 10.2.0.0/16 table 101',
      RTM_DELROUTE,
      0,
      { destination: '10.2.0.0/16', table: 101 },
      '24000000190005004738026b00000000 021000006500ff0000000000 080001000a020000',
    ],
  ])('%s', (_, type, flags, route, golden) => {
    expect(shapeOf(encodeRoute(type, flags, route, INDEXES, 'test'), 12)).toEqual(shapeOf(hex(golden), 12));
  });

  it.each<[string, Partial<Route>]>([
    ['destination', { destination: 'default' }],
    ['destination', { destination: '10.0.0.0' }],
    ['destination', { destination: '10.0.0.0/33' }],
    ['gateway', { gateway: '10.1.0' }],
    ['gateway', { destination: 'fd00::/64', gateway: '10.1.0.2' }],
    ['source', { source: 'fd00::1' }],
    ['table', { table: 0 }],
    ['table', { table: 2 ** 32 }],
    ['metric', { metric: -1 }],
    ['type', { type: 'wormhole' as 'local' }],
    ['scope', { scope: 'toString' as 'host' }],
    ['protocol', { protocol: 256 }],
    ['nextHops', { nextHops: [] }],
    ['nextHops', { gateway: '10.1.0.2', nextHops: [{ gateway: '10.1.0.3' }] }],
    ['nextHops[1].weight', { nextHops: [{ gateway: '10.1.0.3' }, { gateway: '10.1.0.4', weight: 257 }] }],
    ['nextHops[0].gateway', { nextHops: [{ gateway: 'x' }] }],
    ['nextHops[0].device', { nextHops: [{ device: 'a/b' }] }],
  ])('names the field at fault: %s of %o', (field, wrong) => {
    const fake = new FakeNetlink();
    expect(() => addRoute(fake, { destination: '10.0.0.0/8', ...wrong })).toThrow(
      expect.objectContaining({ name: expect.stringMatching(/^Invalid/), field }),
    );
    expect(fake.requests).toEqual([]);
  });
});

describe('decodeRoute, of what the kernel answered to ip route show table all', () => {
  const names = new Map([
    [1, 'lo'],
    [3, 'v0'],
  ]);
  const decode = (bytes: string) => decodeRoute(readMessages(hex(bytes))[0]!.payload, names);

  it.each<[string, string, object]>([
    [
      'local default dev lo table 100 proto boot scope host',
      '2c000000180022004738026b2c4e0000 020000006403fe0200000000 08000f0064000000 0800040001000000',
      { destination: '0.0.0.0/0', type: 'local', table: 100, scope: 'host', protocol: 'boot', device: 'lo' },
    ],
    [
      'blackhole 10.9.0.0/16 table 100000 proto boot scope global',
      '2c000000180022004738026b2c4e0000 02100000fc03000600000000 08000f00a0860100 080001000a090000',
      { destination: '10.9.0.0/16', type: 'blackhole', table: 100_000, scope: 'global', protocol: 'boot' },
    ],
    [
      '10.1.0.0/24 dev v0 proto kernel scope link src 10.1.0.1',
      `3c000000180022004738026b2c4e0000 02180000fe02fd0100000000 08000f00fe000000 080001000a010000
       080007000a010001 0800040003000000`,
      {
        destination: '10.1.0.0/24',
        type: 'unicast',
        table: 254,
        scope: 'link',
        protocol: 'kernel',
        source: '10.1.0.1',
        device: 'v0',
      },
    ],
    [
      '10.3.0.0/16 nexthop via 10.1.0.2 dev v0 weight 2 nexthop via 10.1.0.3 dev v0 weight 1',
      `50000000180022004738026b2c4e0000 02100000fe03000100000000 08000f00fe000000 080001000a030000
       24000900 1000000103000000 080005000a010002 1000000003000000 080005000a010003`,
      {
        destination: '10.3.0.0/16',
        type: 'unicast',
        table: 254,
        scope: 'global',
        protocol: 'boot',
        nextHops: [
          { gateway: '10.1.0.2', device: 'v0', weight: 2 },
          { gateway: '10.1.0.3', device: 'v0', weight: 1 },
        ],
      },
    ],
  ])('%s', (_, bytes, route) => {
    expect(decode(bytes)).toEqual({ family: 4, ...route });
  });

  it('local fd00::1 dev v0 table local proto kernel metric 0', () => {
    const bytes = `74000000180022004738026b2c4e0000 0a800000ff02000200000000 08000f00ff000000
      14000100fd000000000000000000000000000001 0800060000000000 0800040003000000
      24000c0000000000000000000000000000000000000000000000000000000000000000000500140000000000`;
    expect(decode(bytes)).toEqual({
      family: 6,
      destination: 'fd00::1/128',
      type: 'local',
      table: 255,
      scope: 'global',
      protocol: 'kernel',
      metric: 0,
      device: 'v0',
    });
  });

  it('refuses a next hop longer than its row', () => {
    const bytes = '28000000180022004738026b2c4e0000 02100000fe03000100000000 0c000900 1100000103000000';
    expect(() => decode(bytes)).toThrow(expect.objectContaining({ code: 'ERR_NETLINK_MALFORMED' }));
  });
});

function routes(namespace: NetworkNamespace, ...args: string[]) {
  return JSON.parse(runIn(namespace, 'ip', '-j', '-d', ...args)) as Record<string, unknown>[];
}

describeRequiring('routes in the kernel', { root: true, tools: ['ip'] }, () => {
  /** A namespace with v0 (10.1.0.1/24, fd00::1/64) up, and a conversation with it. */
  async function withDevice(body: (netlink: ReturnType<typeof openNetlink>, namespace: NetworkNamespace) => void) {
    await withNamespaces(['a'], (a) => {
      using netlink = openNetlink({ family: 'route', namespace: a });
      addLink(netlink, { kind: 'veth', name: 'v0', up: true, peer: { name: 'v1' } });
      setLink(netlink, 'v1', { up: true });
      addAddress(netlink, { device: 'v0', ip: '10.1.0.1', prefixLength: 24 });
      addAddress(netlink, { device: 'v0', ip: 'fd00::1', prefixLength: 64, noDad: true });
      body(netlink, a);
    });
  }

  it('added here are what ip -j reads', async () => {
    await withDevice((netlink, a) => {
      setLink(netlink, 'lo', { up: true });
      addRoute(netlink, { destination: '10.1.0.5/32', device: 'v0', table: 100 });
      addRoute(netlink, { destination: '0.0.0.0/0', gateway: '192.0.2.1', device: 'v0', onlink: true, table: 101 });
      addRoute(netlink, { destination: '0.0.0.0/0', type: 'local', device: 'lo', table: 102 });
      addRoute(netlink, { destination: '10.9.0.0/16', type: 'unreachable', table: 100_000 });
      addRoute(netlink, { destination: '::/0', gateway: 'fd00::2', table: 101, source: 'fd00::1' });
      addRoute(netlink, { destination: '::/0', type: 'local', device: 'lo', table: 102 });
      expect(routes(a, 'route', 'show', 'table', '100')).toMatchObject([
        { type: 'unicast', dst: '10.1.0.5', dev: 'v0', scope: 'link', protocol: 'boot' },
      ]);
      expect(routes(a, 'route', 'show', 'table', '101')).toMatchObject([
        { dst: 'default', gateway: '192.0.2.1', dev: 'v0', flags: ['onlink'] },
      ]);
      expect(routes(a, 'route', 'show', 'table', '102')).toMatchObject([
        { type: 'local', dst: 'default', dev: 'lo', scope: 'host' },
      ]);
      expect(routes(a, 'route', 'show', 'table', '100000')).toMatchObject([
        { type: 'unreachable', dst: '10.9.0.0/16' },
      ]);
      expect(routes(a, '-6', 'route', 'show', 'table', '101')).toMatchObject([
        { dst: 'default', gateway: 'fd00::2', dev: 'v0', metric: 1024, prefsrc: 'fd00::1' },
      ]);
      expect(routes(a, '-6', 'route', 'show', 'table', '102')).toMatchObject([
        { type: 'local', dst: 'default', dev: 'lo' },
      ]);
    });
  });

  it('added by ip are listed here, and what is listed can be deleted and added again', async () => {
    await withDevice((netlink, a) => {
      runIn(
        a,
        'ip',
        'route',
        'add',
        '10.2.0.0/16',
        'via',
        '10.1.0.2',
        'src',
        '10.1.0.1',
        'metric',
        '5',
        'table',
        '101',
      );
      runIn(a, 'ip', 'route', 'add', 'blackhole', '10.9.0.0/16', 'table', '101', 'proto', 'static');
      runIn(a, 'ip', 'route', 'add', 'throw', '10.8.0.0/16', 'table', '101', 'proto', '77');
      const hops = ['nexthop', 'via', '10.1.0.2', 'weight', '3', 'nexthop', 'dev', 'v0'];
      runIn(a, 'ip', 'route', 'add', '10.3.0.0/16', 'table', '101', ...hops);
      runIn(a, 'ip', 'route', 'add', '10.4.0.0/16', 'via', 'inet6', 'fd00::9', 'dev', 'v0', 'table', '101');
      runIn(a, 'ip', 'route', 'add', 'fd01::/32', 'via', 'fd00::2', 'table', '101');
      const before = listRoutes(netlink, { table: 101 });
      expect(before).toMatchObject([
        { destination: '10.2.0.0/16', gateway: '10.1.0.2', source: '10.1.0.1', metric: 5, device: 'v0' },
        {
          destination: '10.3.0.0/16',
          nextHops: [
            { gateway: '10.1.0.2', device: 'v0', weight: 3 },
            { device: 'v0', weight: 1 },
          ],
        },
        { destination: '10.4.0.0/16', gateway: 'fd00::9', device: 'v0' },
        { destination: '10.8.0.0/16', type: 'throw', protocol: 77 },
        { destination: '10.9.0.0/16', type: 'blackhole', protocol: 'static' },
        { family: 6, destination: 'fd01::/32', gateway: 'fd00::2', metric: 1024 },
      ]);
      for (const route of before) deleteRoute(netlink, route);
      expect(listRoutes(netlink, { table: 101 })).toEqual([]);
      for (const route of before) addRoute(netlink, route);
      expect(listRoutes(netlink, { table: 101 })).toEqual(before);
    });
  });

  it('are filtered by family, table and device; a table that was never used is empty', async () => {
    await withDevice((netlink) => {
      expect(listRoutes(netlink, { table: 4711 })).toEqual([]);
      expect(new Set(listRoutes(netlink, { family: 6 }).map(({ family }) => family))).toEqual(new Set([6]));
      expect(listRoutes(netlink, { family: 4, table: 254 })).toMatchObject([
        { destination: '10.1.0.0/24', device: 'v0', protocol: 'kernel' },
      ]);
      expect(listRoutes(netlink, { device: 'lo' })).toEqual([]);
      expect(() => listRoutes(netlink, { device: 'nobody' })).toThrow(
        expect.objectContaining({ code: 'ENODEV', field: 'filter.device' }),
      );
    });
  });

  it('are replaced, and refused with the words of the kernel', async () => {
    await withDevice((netlink) => {
      addRoute(netlink, { destination: '10.2.0.0/16', gateway: '10.1.0.2', table: 101 });
      expect(() => addRoute(netlink, { destination: '10.2.0.0/16', gateway: '10.1.0.3', table: 101 })).toThrow(
        expect.objectContaining({ code: 'EEXIST' }),
      );
      replaceRoute(netlink, { destination: '10.2.0.0/16', gateway: '10.1.0.3', table: 101 });
      expect(listRoutes(netlink, { table: 101 })).toMatchObject([{ gateway: '10.1.0.3' }]);
      expect(() => addRoute(netlink, { destination: '10.7.0.0/16', gateway: '192.0.2.1' })).toThrow(
        expect.objectContaining({ code: 'ENETUNREACH', extAck: 'Nexthop has invalid gateway', op: 'route.addRoute' }),
      );
      expect(() => deleteRoute(netlink, { destination: '10.77.0.0/16' })).toThrow(
        expect.objectContaining({ code: 'ESRCH' }),
      );
      deleteRoute(netlink, { destination: '10.77.0.0/16' }, { missingOk: true });
      deleteRoute(netlink, { destination: '10.77.0.0/16', table: 4711 }, { missingOk: true });
    });
  });
});
