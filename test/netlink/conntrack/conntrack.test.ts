import { describe, expect, it } from 'vitest';
import { encodeAddConntrack, encodeListConntrack, encodeSetMark } from '../../../src/netlink/conntrack/conntrack.ts';
import {
  addConntrack,
  type ConntrackEntry,
  type ConntrackFilter,
  type ConntrackKey,
  conntrackStatusNames,
  conntrackUsage,
  deleteConntrack,
  getConntrack,
  listConntrack,
  setConntrackMark,
  setConntrackMarks,
} from '../../../src/netlink/conntrack/index.ts';
import { FakeNetlink, openNetlink } from '../../../src/netlink/index.ts';
import { runIn, withNamespaces } from '../../support/namespaces.ts';
import { describeRequiring } from '../../support/require.ts';
import { hex, shapeOf } from '../golden.ts';

const TCP = {
  source: '10.0.0.1',
  destination: '10.0.0.2',
  protocol: 6,
  sourcePort: 1000,
  destinationPort: 80,
} as const;

describe('requests, against the traffic of conntrack 1.4.7', () => {
  it('conntrack -I -s 10.0.0.1 -d 10.0.0.2 -p tcp --sport 1000 --dport 80 --state ESTABLISHED -t 100 -m 0x211', () => {
    const golden = hex(`ac000000000105064638026b00000000 02000000
      34000180 14000180080001000a000001080002000a000002 1c000280 0500010006000000 0600020003e80000 0600030000500000
      34000280 14000180080001000a000002080002000a000001 1c000280 0500010006000000 0600020000500000 0600030003e80000
      0800070000000064 0800080000000211 20000480 1c000180 0500010003720000 060004000a0a0000 060005000a0a0000`);
    const ours = encodeAddConntrack({ original: TCP, timeoutSeconds: 100, mark: 0x211 }, 'test');
    expect(shapeOf(ours, 4)).toEqual(shapeOf(golden, 4));
  });

  it('conntrack -U: the mark of one connection', () => {
    const golden = hex(`50000000000105004638026b00000000 02000000
      34000180 14000180080001000a000001080002000a000002 1c000280 0500010006000000 0600020003e80000 0600030000500000
      0800080000000231`);
    expect(shapeOf(encodeSetMark({ original: TCP }, { mark: 0x231 }, 'test'), 4)).toEqual(shapeOf(golden, 4));
  });

  it('conntrack -L -m 0x210/0x210', () => {
    const golden = hex('24000000010101034638026b00000000 00000000 0800080000000210 0800150000000210');
    expect(shapeOf(encodeListConntrack({ mark: 0x210, markMask: 0x210 }), 4)).toEqual(shapeOf(golden, 4));
  });

  it('the filter of the kernel: CTA_FILTER with its flags in host byte order', () => {
    // net/netfilter/nf_conntrack_netlink.c: CTA_FILTER_F_CTA_IP_SRC 1, CTA_PROTO_NUM 8, CTA_PROTO_DST_PORT 32.
    const shape = shapeOf(
      encodeListConntrack({ family: 4, original: { source: '10.0.0.1', protocol: 6, destinationPort: 80 } }),
      4,
    );
    expect(shape.header).toBe('02000000');
    expect(shape.attributes).toEqual({
      1: { 1: { 1: '0a000001' }, 2: { 1: '06', 3: '0050' } },
      25: { 1: '29000000', 2: '00000000' },
    });
  });

  it('leaves to itself what the kernel filters wrongly or not at all', () => {
    const attributes = (filter: ConntrackFilter) => shapeOf(encodeListConntrack(filter), 4).attributes;
    // Ports of no protocol, IPv6 addresses, a tuple of no family.
    expect(attributes({ family: 4, original: { sourcePort: 5 } })).toEqual({});
    expect(attributes({ family: 6, original: { source: 'fd00::1' } })).toEqual({});
    expect(attributes({ original: { protocol: 6 } })).toEqual({});
  });
});

describe('input', () => {
  const key = (wrong: object): ConntrackKey => ({ original: { ...TCP, ...wrong } });

  it.each<[string, ConntrackKey]>([
    ['original.source', key({ source: '10.0.0' })],
    ['original.destination', key({ destination: 'fd00::1' })],
    ['original.sourcePort', key({ sourcePort: 65536 })],
    ['original.destinationPort', key({ destinationPort: undefined })],
    ['original.protocol', key({ protocol: 256 })],
    ['original.protocol', key({ protocol: undefined })],
    ['original.icmp.id', key({ protocol: 1, icmp: { type: 8, code: 0, id: -1 } })],
    ['zone', { ...key({}), zone: 65536 }],
    ['key.id', { ...key({}), id: -1 }],
  ])('names the field at fault: %s', (field, wrong) => {
    const fake = new FakeNetlink();
    expect(() => deleteConntrack(fake, wrong)).toThrow(
      expect.objectContaining({ name: expect.stringMatching(/^Invalid/), field }),
    );
    expect(fake.requests).toEqual([]);
  });

  it.each<[string, ConntrackFilter]>([
    ['filter.mark', { mark: -1 }],
    ['filter.markMask', { markMask: 2 ** 32 }],
    ['filter.status', { status: 0.5 }],
    ['filter.zone', { zone: 65536 }],
    ['filter.original.source', { original: { source: '10.0.0.0/8' } }],
    ['filter.original', { family: 6, original: { source: '10.0.0.1' } }],
    ['filter.reply', { original: { source: '10.0.0.1' }, reply: { source: 'fd00::1' } }],
    ['filter.reply.destinationPort', { reply: { destinationPort: 70000 } }],
  ])('names the field of a filter at fault: %s', (field, filter) => {
    const fake = new FakeNetlink();
    expect(() => listConntrack(fake, filter)).toThrow(
      expect.objectContaining({ name: expect.stringMatching(/^Invalid/), field }),
    );
    expect(fake.requests).toEqual([]);
  });

  it('never lets a delete go without a tuple, which would empty the table', () => {
    const fake = new FakeNetlink();
    expect(() => deleteConntrack(fake, { original: {} } as ConntrackKey)).toThrow(
      expect.objectContaining({ code: 'ERR_NETLINK_INVALID', field: 'original.source' }),
    );
    expect(fake.requests).toEqual([]);
  });

  it('passes over connections that end between the list and the mark', () => {
    const listed = hex(`02000000
      34000180 14000180080001000a000001080002000a000002 1c000280 0500010006000000 0600020003e80000 0600030000500000
      34000280 14000180080001000a000002080002000a000001 1c000280 0500010006000000 0600020000500000 0600030003e80000`);
    const fake = new FakeNetlink((request) => (request.type === 0x101 ? [{ type: 0x100, payload: listed }] : 2));
    expect(setConntrackMarks(fake, {}, { mark: 1 })).toBe(0);
    expect(fake.requests).toHaveLength(2);
  });
});

const ENTRIES: Record<string, Parameters<typeof addConntrack>[1]> = {
  tcp: {
    original: TCP,
    reply: { source: '10.9.9.9', destination: '10.0.0.1', protocol: 6, sourcePort: 8080, destinationPort: 1000 },
    mark: 0x211,
    timeoutSeconds: 1000,
  },
  udp: { original: { ...TCP, protocol: 17, sourcePort: 2000 }, mark: 0x220, zone: 7, timeoutSeconds: 1000 },
  tcp6: {
    original: { source: 'fd00::1', destination: 'fd00::2', protocol: 6, sourcePort: 5, destinationPort: 6 },
    timeoutSeconds: 1000,
  },
  icmp: {
    original: { source: '10.0.0.1', destination: '10.0.0.3', protocol: 1, icmp: { type: 8, code: 0, id: 77 } },
    timeoutSeconds: 1000,
  },
  icmp6: {
    original: { source: 'fd00::1', destination: 'fd00::3', protocol: 58, icmp: { type: 128, code: 0, id: 77 } },
    timeoutSeconds: 1000,
  },
};

function nameOf(entry: ConntrackEntry): string {
  for (const [name, { original }] of Object.entries(ENTRIES)) {
    if (original.protocol === entry.original.protocol && original.source === entry.original.source) return name;
  }
  return 'unknown';
}

describeRequiring('connections in the kernel', { root: true, tools: ['conntrack'] }, () => {
  async function withEntries(
    body: (netlink: ReturnType<typeof openNetlink>, tool: (...args: string[]) => string[]) => void | Promise<void>,
  ): Promise<void> {
    await withNamespaces(['ct'], async (namespace) => {
      using netlink = openNetlink({ family: 'netfilter', namespace });
      for (const entry of Object.values(ENTRIES)) addConntrack(netlink, entry);
      await body(netlink, (...args) =>
        runIn(namespace, 'conntrack', ...args)
          .split('\n')
          .filter((line) => line !== ''),
      );
    });
  }

  it('added here are what conntrack -L reads', async () => {
    await withEntries((_, tool) => {
      const lines = tool('-L').map((line) => line.replace(/ +/g, ' ').replace(/ 9\d\d /, ' 9xx '));
      expect(lines.sort()).toEqual([
        expect.stringMatching(/^icmp 1 .*src=10.0.0.1 dst=10.0.0.3 type=8 code=0 id=77 .*type=0 code=0 id=77/),
        expect.stringMatching(/^icmpv6 58 .*src=fd00::1 dst=fd00::3 type=128 code=0 id=77 .*type=129/),
        expect.stringMatching(/^tcp 6 .*ESTABLISHED src=10.0.0.1 .*src=10.9.9.9 dst=10.0.0.1 .*mark=529/),
        expect.stringMatching(/^tcp 6 .*src=fd00::1 dst=fd00::2 sport=5 dport=6 .*sport=6 dport=5 mark=0/),
        expect.stringMatching(/^udp 17 .*sport=2000 dport=80 .*mark=544 zone=7/),
      ]);
    });
  });

  it('added by conntrack are listed here', async () => {
    await withNamespaces(['ct'], (namespace) => {
      const endpoints = ['-s', '10.0.0.1', '-d', '10.0.0.2', '-p', 'tcp', '--sport', '1000', '--dport', '80'];
      const rest = ['--state', 'SYN_SENT', '-t', '1000', '-m', '0x211'];
      runIn(namespace, 'conntrack', '-I', ...endpoints, ...rest);
      using netlink = openNetlink({ family: 'netfilter', namespace });
      const [entry] = listConntrack(netlink);
      expect(entry).toMatchObject({
        family: 4,
        original: TCP,
        reply: { source: '10.0.0.2', destination: '10.0.0.1', protocol: 6, sourcePort: 80, destinationPort: 1000 },
        mark: 0x211,
        zone: 0,
        tcpState: 'SYN_SENT',
        // CONFIRMED
        status: 8,
      });
      expect(entry!.timeoutSeconds).toBeGreaterThan(900);
      const line = runIn(namespace, 'conntrack', '-L', '-o', 'id');
      expect(line).toContain(`id=${entry!.id}`);
    });
  });

  it.each<[string, ConntrackFilter, string[]]>([
    ['nothing', {}, ['icmp', 'icmp6', 'tcp', 'tcp6', 'udp']],
    ['family', { family: 6 }, ['icmp6', 'tcp6']],
    ['IPv4 source', { original: { source: '10.0.0.1' } }, ['icmp', 'tcp', 'udp']],
    ['IPv4 source in its mapped form', { original: { source: '::ffff:10.0.0.1' } }, ['icmp', 'tcp', 'udp']],
    ['IPv4 source and protocol', { original: { source: '10.0.0.1', protocol: 6 } }, ['tcp']],
    ['a whole tuple', { original: TCP }, ['tcp']],
    ['a tuple of nobody', { original: { ...TCP, sourcePort: 9 } }, []],
    ['reply source', { reply: { source: '10.9.9.9' } }, ['tcp']],
    ['reply port', { reply: { protocol: 6, sourcePort: 8080 } }, ['tcp']],
    ['IPv6 source', { original: { source: 'fd00::1' } }, ['icmp6', 'tcp6']],
    ['IPv6 source of nobody', { original: { source: 'fd00::99' } }, []],
    ['IPv6 destination', { original: { destination: 'fd00:0::2' } }, ['tcp6']],
    ['protocol alone', { original: { protocol: 17 } }, ['udp']],
    ['port alone', { original: { sourcePort: 2000 } }, ['udp']],
    ['ICMP', { original: { icmp: { type: 8, code: 0, id: 77 } } }, ['icmp']],
    ['mark', { mark: 0x211 }, ['tcp']],
    ['mark and mask', { mark: 0x200, markMask: 0x200 }, ['tcp', 'udp']],
    ['no mark', { mark: 0 }, ['icmp', 'icmp6', 'tcp6']],
    ['zone', { zone: 7 }, ['udp']],
    ['zone 0 and source', { zone: 0, original: { source: '10.0.0.1' } }, ['icmp', 'tcp']],
    ['status CONFIRMED', { status: 8, family: 4 }, ['icmp', 'tcp', 'udp']],
    ['status SEEN_REPLY', { status: 2 }, []],
  ])('are filtered by %s', async (_, filter, names) => {
    await withEntries((netlink) => {
      expect(listConntrack(netlink, filter).map(nameOf).sort()).toEqual(names);
    });
  });

  it('are looked up, marked and deleted one by one', async () => {
    await withEntries((netlink, tool) => {
      expect(getConntrack(netlink, { original: TCP })).toMatchObject({ mark: 0x211, reply: { source: '10.9.9.9' } });
      expect(getConntrack(netlink, { original: { ...TCP, sourcePort: 9 } })).toBeUndefined();
      // udp is in zone 7: not there in zone 0.
      const { original } = ENTRIES.udp!;
      expect(getConntrack(netlink, { original })).toBeUndefined();
      expect(getConntrack(netlink, { original, zone: 7 })).toMatchObject({ zone: 7 });

      setConntrackMark(netlink, { original: TCP }, { mark: 0x40, mask: 0x41 });
      expect(tool('-L', '-f', 'ipv4', '-p', 'tcp')[0]).toContain(`mark=${0x250}`);
      setConntrackMark(netlink, { original: TCP }, { mark: 5 });
      expect(getConntrack(netlink, { original: TCP })!.mark).toBe(5);
      expect(() => setConntrackMark(netlink, { original: { ...TCP, sourcePort: 9 } }, { mark: 1 })).toThrow(
        expect.objectContaining({ code: 'ENOENT', op: 'conntrack.setMark' }),
      );

      const { id } = getConntrack(netlink, { original: TCP })!;
      expect(() => deleteConntrack(netlink, { original: TCP, id: (id + 1) >>> 0 })).toThrow(
        expect.objectContaining({ code: 'ENOENT' }),
      );
      deleteConntrack(netlink, { original: TCP, id });
      expect(() => deleteConntrack(netlink, { original: TCP })).toThrow(expect.objectContaining({ code: 'ENOENT' }));
      deleteConntrack(netlink, { original: TCP }, { missingOk: true });
      for (const entry of listConntrack(netlink)) deleteConntrack(netlink, entry);
      expect(tool('-L')).toEqual([]);
      expect(() => addConntrack(netlink, ENTRIES.tcp6!)).not.toThrow();
      expect(() => addConntrack(netlink, ENTRIES.tcp6!)).toThrow(expect.objectContaining({ code: 'EEXIST' }));
    });
  });

  it('are marked by filter, as conntrack -U -s POD -m 0x220/0x220 does', async () => {
    await withEntries((netlink) => {
      expect(setConntrackMarks(netlink, { original: { source: '10.0.0.1' } }, { mark: 0x220, mask: 0x220 })).toBe(3);
      const marks = Object.fromEntries(listConntrack(netlink).map((entry) => [nameOf(entry), entry.mark]));
      expect(marks).toEqual({ tcp: 0x231, udp: 0x220, icmp: 0x220, tcp6: 0, icmp6: 0 });
      expect(conntrackUsage(netlink)).toMatchObject({ entries: 5 });
    });
  });
});

describeRequiring('a connection that really is one', { root: true, tools: ['ip', 'nft'] }, () => {
  it('shows what passed: counters, status, both directions', async () => {
    await withNamespaces(['ct'], async (namespace) => {
      runIn(namespace, 'ip', 'link', 'set', 'lo', 'up');
      // Tracking begins with the first rule that asks for it, counting with the sysctl.
      runIn(namespace, 'sh', '-c', 'echo 1 > /proc/sys/net/netfilter/nf_conntrack_acct');
      runIn(
        namespace,
        'nft',
        'add table ip t; add chain ip t c { type filter hook input priority 0; }; add rule ip t c ct state new accept',
      );
      // In a process of its own: dgram makes its sockets later, when this thread has left the namespace.
      runIn(namespace, process.execPath, '--input-type=module', '-e', PING_PONG);
      using netlink = openNetlink({ family: 'netfilter', namespace });
      const [entry] = listConntrack(netlink, { family: 4, original: { protocol: 17, destinationPort: 5353 } });
      expect(entry).toMatchObject({
        original: { source: '127.0.0.1', sourcePort: 4242 },
        reply: { sourcePort: 5353, destinationPort: 4242 },
        // IP and UDP headers are 28 bytes.
        originalCounters: { packets: 1, bytes: 32 },
        replyCounters: { packets: 1, bytes: 33 },
      });
      expect(conntrackStatusNames(entry!.status)).toContain('SEEN_REPLY');
    });
  });
});

const PING_PONG = `
import { createSocket } from 'node:dgram';
import { once } from 'node:events';
const server = createSocket('udp4').bind(5353, '127.0.0.1');
const client = createSocket('udp4').bind(4242, '127.0.0.1');
await Promise.all([once(server, 'listening'), once(client, 'listening')]);
server.on('message', (_, { port }) => server.send('pong!', port, '127.0.0.1'));
client.send('ping', 5353, '127.0.0.1');
await once(client, 'message');
server.close();
client.close();
`;
