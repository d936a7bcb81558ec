import { describe, expect, it } from 'vitest';
import { FakeNetlink, openNetlink, readMessages } from '../../../src/netlink/index.ts';
import { RTM_DELRULE, RTM_NEWRULE } from '../../../src/netlink/route/constants.ts';
import { addRule, deleteRule, listRules, type Rule } from '../../../src/netlink/route/index.ts';
import { decodeRule, encodeRule } from '../../../src/netlink/route/rule.ts';
import { runIn, withNamespaces } from '../../support/namespaces.ts';
import { describeRequiring } from '../../support/require.ts';
import { hex, shapeOf } from '../golden.ts';

const ADD = 0x600;

describe('encodeRule, against the traffic of ip 6.1', () => {
  it.each<[string, number, number, Rule, string]>([
    [
      'ip rule add priority 101 fwmark 0x100/0x1ff lookup 101',
      RTM_NEWRULE,
      ADD,
      { family: 4, priority: 101, fwmark: 0x100, fwmask: 0x1ff, table: 101 },
      `34000000200005064738026b00000000 020000006500000100000000
       0800060065000000 08000a0000010000 08001000ff010000`,
    ],
    [
      'ip rule add priority 100 not iif v0 goto 32766',
      RTM_NEWRULE,
      ADD,
      { family: 4, priority: 100, invert: true, iif: 'v0', goto: 32766 },
      `34000000200005064738026b00000000 020000000000000202000000
       0800060064000000 0700030076300000 08000400fe7f0000`,
    ],
    [
      'ip -6 rule add priority 100 from fd00::/64 to fd01::/32 ipproto tcp dport 80-90 lookup 1000 suppress_prefixlength 0 protocol static',
      RTM_NEWRULE,
      ADD,
      {
        family: 6,
        priority: 100,
        source: 'fd00::/64',
        destination: 'fd01::/32',
        ipProtocol: 6,
        destinationPorts: { start: 80, end: 90 },
        table: 1000,
        suppressPrefixLength: 0,
        protocol: 'static',
      },
      `74000000200005064738026b00000000 0a2040000000000100000000 0800060064000000
       14000200fd000000000000000000000000000000 14000100fd010000000000000000000000000000
       0500160006000000 0800180050005a00 08000f00e8030000 08000e0000000000 0500150004000000`,
    ],
    [
      'ip rule del priority 101',
      RTM_DELRULE,
      0,
      { family: 4, priority: 101 },
      '24000000210005004738026b00000000 020000000000000000000000 0800060065000000',
    ],
  ])('%s', (_, type, flags, rule, golden) => {
    expect(shapeOf(encodeRule(type, flags, rule, 'test'), 12)).toEqual(shapeOf(hex(golden), 12));
  });

  it.each<[string, Partial<Rule>]>([
    ['family', { family: 5 as 4 }],
    ['priority', { table: 1, priority: -1 }],
    ['table', { table: 0 }],
    ['table', { action: 'lookup', goto: 5 }],
    ['goto', { table: 5, action: 'goto' }],
    ['goto', { priority: 100, goto: 100 }],
    ['action', {}],
    ['action', { action: 'teleport' as 'nop' }],
    ['fwmark', { table: 1, fwmark: 2 ** 32 }],
    ['fwmask', { table: 1, fwmask: 0.5 }],
    ['source', { table: 1, source: 'fd00::/64' }],
    ['destination', { table: 1, destination: '10.0.0.1' }],
    ['iif', { table: 1, iif: 'sixteen-letters!' }],
    ['oif', { table: 1, oif: '' }],
    ['ipProtocol', { table: 1, ipProtocol: 0 }],
    ['sourcePorts.start', { table: 1, sourcePorts: { start: 0, end: 5 } }],
    ['destinationPorts.end', { table: 1, destinationPorts: { start: 90, end: 80 } }],
    ['protocol', { table: 1, protocol: 'carrier-pigeon' as 'boot' }],
  ])('names the field at fault: %s of %o', (field, wrong) => {
    const fake = new FakeNetlink();
    expect(() => addRule(fake, { family: 4, ...wrong })).toThrow(
      expect.objectContaining({ name: expect.stringMatching(/^Invalid/), field }),
    );
    expect(fake.requests).toEqual([]);
  });
});

describe('decodeRule, of what the kernel answered to ip rule', () => {
  const decode = (bytes: string) => decodeRule(readMessages(hex(bytes))[0]!.payload);

  it.each<[string, string, object]>([
    [
      '0: from all lookup local',
      '34000000200002004738026b344e0000 02000000ff00000100000000 08000f00ff000000 08000e00ffffffff 0500150002000000',
      { family: 4, priority: 0, action: 'lookup', table: 255, protocol: 'kernel' },
    ],
    [
      '100: not from all iif v0 goto 32766',
      `4c000000200002004738026b344e0000 020000000000000202000000 08000f0000000000 08000e00ffffffff 0500150000000000
       0700030076300000 0800060064000000 08000400fe7f0000`,
      { family: 4, priority: 100, action: 'goto', goto: 32766, invert: true, iif: 'v0', protocol: 'unspec' },
    ],
    [
      '103: from all fwmark 0x100/0x1ff lookup 101',
      `4c000000200002004738026b344e0000 020000006500000100000000 08000f0065000000 08000e00ffffffff 0500150000000000
       0800060067000000 08000a0000010000 08001000ff010000`,
      {
        family: 4,
        priority: 103,
        action: 'lookup',
        fwmark: 0x100,
        fwmask: 0x1ff,
        table: 101,
        protocol: 'unspec',
      },
    ],
    [
      '100: from fd00::/64 to fd01::/32 ipproto tcp dport 80-90 lookup 1000 suppress_prefixlength 0 proto static',
      `74000000200002004738026b384e0000 0a204000fc00000100000000 08000f00e8030000 08000e0000000000 0500150004000000
       0800060064000000 0800180050005a00 0500160006000000 14000100fd010000000000000000000000000000
       14000200fd000000000000000000000000000000`,
      {
        family: 6,
        priority: 100,
        action: 'lookup',
        source: 'fd00::/64',
        destination: 'fd01::/32',
        ipProtocol: 6,
        destinationPorts: { start: 80, end: 90 },
        table: 1000,
        suppressPrefixLength: 0,
        protocol: 'static',
      },
    ],
  ])('%s', (_, bytes, rule) => {
    expect(decode(bytes)).toEqual(rule);
  });
});

describeRequiring('rules in the kernel', { root: true, tools: ['ip'] }, () => {
  it('added here are what ip -j reads', async () => {
    await withNamespaces(['a'], (a) => {
      using netlink = openNetlink({ family: 'route', namespace: a });
      addRule(netlink, { family: 4, priority: 100, fwmark: 0x200, fwmask: 0x200, goto: 32766 });
      addRule(netlink, { family: 4, priority: 101, fwmark: 0x100, fwmask: 0x1ff, table: 101 });
      addRule(netlink, { family: 4, priority: 102, fwmask: 0x40, iif: 'lo', invert: true, table: 100_000 });
      addRule(netlink, { family: 4, priority: 103, source: '10.1.0.0/16', oif: 'eth9', action: 'prohibit' });
      addRule(netlink, { family: 6, priority: 104, destination: 'fd00::/64', table: 102, protocol: 'static' });
      expect(JSON.parse(runIn(a, 'ip', '-j', 'rule'))).toMatchObject([
        { priority: 0 },
        { priority: 100, fwmark: '0x200', fwmask: '0x200', goto: 32766 },
        { priority: 101, fwmark: '0x100', fwmask: '0x1ff', table: '101' },
        { priority: 102, fwmark: '0', fwmask: '0x40', iif: 'lo', not: null, table: '100000' },
        { priority: 103, src: '10.1.0.0', srclen: 16, oif: 'eth9', action: 'prohibit' },
        { priority: 32766 },
        { priority: 32767 },
      ]);
      expect(JSON.parse(runIn(a, 'ip', '-j', '-6', 'rule'))).toMatchObject([
        { priority: 0 },
        { priority: 104, dst: 'fd00::', dstlen: 64, table: '102', protocol: 'static' },
        { priority: 32766 },
      ]);
    });
  });

  it('added by ip are listed here, and what is listed can be deleted and added again', async () => {
    await withNamespaces(['a'], (a) => {
      const rule = (...args: string[]) => runIn(a, 'ip', ...args);
      rule('rule', 'add', 'pref', '100', 'not', 'iif', 'lo', 'fwmark', '0x200/0x200', 'goto', '32766');
      rule('rule', 'add', 'pref', '101', 'from', '10.0.0.0/8', 'to', '10.1.0.0/16', 'lookup', '101');
      rule('rule', 'add', 'pref', '102', 'ipproto', 'udp', 'sport', '53', 'dport', '1000-2000', 'lookup', '100000');
      rule('rule', 'add', 'pref', '103', 'oif', 'lo', 'blackhole');
      rule('rule', 'add', 'pref', '105', 'tos', '0x10', 'uidrange', '0-0', 'lookup', '105');
      rule('-6', 'rule', 'add', 'pref', '104', 'fwmark', '0x100', 'lookup', '102', 'suppress_prefixlength', '3');
      using netlink = openNetlink({ family: 'route', namespace: a });
      const mine = () => listRules(netlink).filter(({ priority }) => priority >= 100 && priority < 1000);
      const before = mine();
      expect(before).toEqual([
        {
          family: 4,
          priority: 100,
          action: 'goto',
          goto: 32766,
          invert: true,
          iif: 'lo',
          fwmark: 0x200,
          fwmask: 0x200,
          protocol: 'unspec',
        },
        {
          family: 4,
          priority: 101,
          action: 'lookup',
          table: 101,
          source: '10.0.0.0/8',
          destination: '10.1.0.0/16',
          protocol: 'unspec',
        },
        {
          family: 4,
          priority: 102,
          action: 'lookup',
          table: 100_000,
          ipProtocol: 17,
          sourcePorts: { start: 53, end: 53 },
          destinationPorts: { start: 1000, end: 2000 },
          protocol: 'unspec',
        },
        { family: 4, priority: 103, action: 'blackhole', oif: 'lo', protocol: 'unspec' },
        {
          family: 4,
          priority: 105,
          action: 'lookup',
          table: 105,
          tos: 0x10,
          uids: { start: 0, end: 0 },
          protocol: 'unspec',
        },
        {
          family: 6,
          priority: 104,
          action: 'lookup',
          table: 102,
          fwmark: 0x100,
          fwmask: 0xffff_ffff,
          suppressPrefixLength: 3,
          protocol: 'unspec',
        },
      ]);
      for (const each of before) deleteRule(netlink, each);
      expect(mine()).toEqual([]);
      for (const each of before) addRule(netlink, each);
      expect(mine()).toEqual(before);
    });
  });

  it('with something that there is no field for say so, and cannot be added again', async () => {
    await withNamespaces(['a'], (a) => {
      runIn(a, 'ip', 'rule', 'add', 'pref', '100', 'tun_id', '7', 'lookup', '101');
      using netlink = openNetlink({ family: 'route', namespace: a });
      const [, listed] = listRules(netlink, { family: 4 });
      // FRA_TUN_ID
      expect(listed).toMatchObject({ priority: 100, table: 101, unread: [12] });
      expect(() => addRule(netlink, listed!)).toThrow(
        expect.objectContaining({ code: 'ERR_NETLINK_INVALID', field: 'unread' }),
      );
    });
  });

  it('twice: EEXIST; none: ENOENT unless missingOk; by priority alone', async () => {
    await withNamespaces(['a'], (a) => {
      using netlink = openNetlink({ family: 'route', namespace: a });
      const rule: Rule = { family: 4, priority: 101, fwmark: 1, table: 101 };
      addRule(netlink, rule);
      expect(() => addRule(netlink, rule)).toThrow(expect.objectContaining({ code: 'EEXIST' }));
      deleteRule(netlink, { family: 4, priority: 101 });
      expect(() => deleteRule(netlink, rule)).toThrow(expect.objectContaining({ code: 'ENOENT' }));
      deleteRule(netlink, rule, { missingOk: true });
      expect(listRules(netlink, { family: 4 }).map(({ priority }) => priority)).toEqual([0, 32766, 32767]);
    });
  });
});
