import { describe, expect, it } from 'vitest';
import { FakeNetlink, MessageWriter, openNetlink } from '../../../src/netlink/index.ts';
import {
  addLink,
  deleteLink,
  getLink,
  type Link,
  type LinkSpec,
  listLinks,
  moveLink,
  setLink,
} from '../../../src/netlink/route/index.ts';
import { encodeAddLink } from '../../../src/netlink/route/link.ts';
import { runIn, withNamespaces } from '../../support/namespaces.ts';
import { describeRequiring } from '../../support/require.ts';
import { hex, type Nests, shapeOf } from '../golden.ts';

/** IFLA_LINKINFO { IFLA_INFO_DATA }; in a veth's, VETH_INFO_PEER begins with a `struct ifinfomsg`. */
const LINK: Nests = { 18: { inside: { 2: { inside: {} } } } };
const VETH: Nests = { 18: { inside: { 2: { inside: { 1: { header: 16 } } } } } };

describe('encodeAddLink, against the traffic of ip 6.1', () => {
  it('ip link add va mtu 1400 address 02:00:00:00:00:01 type veth peer name vb', () => {
    const golden = hex(`68000000100005064738026b00000000 00000000000000000000000000000000
      0800040078050000 0a00010002000000000100000700030076610000
      2c001200 0800010076657468 20000200 1c000100 00000000000000000000000000000000 0700030076620000`);
    const ours = encodeAddLink({
      kind: 'veth',
      name: 'va',
      mtu: 1400,
      address: '02:00:00:00:00:01',
      peer: { name: 'vb' },
    });
    expect(withoutNul(shapeOf(ours, 16, VETH))).toEqual(shapeOf(golden, 16, VETH));
  });

  it('ip link add br1 type bridge stp_state 1', () => {
    const golden = hex(`44000000100005064738026b00000000 00000000000000000000000000000000
      0800030062723100 1c001200 0a00010062726964676500000c000200 0800050001000000`);
    const ours = encodeAddLink({ kind: 'bridge', name: 'br1', stp: true });
    expect(withoutNul(shapeOf(ours, 16, LINK))).toEqual(shapeOf(golden, 16, LINK));
  });

  it('ip link add gn0 type geneve id 77 remote 10.0.0.2', () => {
    // `ip` spells out what the kernel does anyway: IFLA_GENEVE_UDP_CSUM and its kin 8, 11, TTL 3, TOS 4.
    const golden = hex(`64000000100005064738026b00000000 00000000000000000000000000000000
      08000300676e30003c0012000a00010067656e6576650000 2c000200 080001004d000000 080002000a000002
      08000b0000000000 0500030000000000 0500040000000000`);
    const ours = encodeAddLink({ kind: 'geneve', name: 'gn0', id: 77, remote: '10.0.0.2' });
    const data = dataOf(shapeOf(golden, 16, LINK));
    // id, remote; and the default port, which `ip` leaves to the kernel.
    expect(dataOf(shapeOf(ours, 16, LINK))).toEqual({ 1: data[1], 2: data[2], 5: '17c1' });
  });

  it('ip link add gn6 type geneve id 77 remote fd00::2 dstport 6082', () => {
    const golden = hex(`78000000100005064738026b00000000 00000000000000000000000000000000
      08000300676e3600500012000a00010067656e6576650000 40000200 080001004d000000
      14000700fd000000000000000000000000000002 08000b0000000000 0500030000000000 0500040000000000 0600050017c20000`);
    const ours = encodeAddLink({ kind: 'geneve', name: 'gn6', id: 77, remote: 'fd00::2', port: 6082 });
    const data = dataOf(shapeOf(golden, 16, LINK));
    expect(dataOf(shapeOf(ours, 16, LINK))).toEqual({ 1: data[1], 7: data[7], 5: data[5] });
  });

  it('ip link add vx0 type vxlan id 77 remote 10.0.0.2 local 10.0.0.1 dev v0 dstport 4789 nolearning', () => {
    const golden = hex(`6c000000100005064738026b00000000 00000000000000000000000000000000
      080003007678300044001200 0900010076786c616e000000 34000200 0800030003000000 080001004d000000 080004000a000001
      080002000a000002 0500070000000000 06000f0012b50000`);
    const link: LinkSpec = {
      kind: 'vxlan',
      name: 'vx0',
      id: 77,
      remote: '10.0.0.2',
      local: '10.0.0.1',
      device: 'v0',
      learning: false,
    };
    expect(dataOf(shapeOf(encodeAddLink(link, { lowerIndex: 3 }), 16, LINK))).toEqual(
      dataOf(shapeOf(golden, 16, LINK)),
    );
  });

  it('ip link add du0 type dummy', () => {
    const golden = hex(`38000000100005064738026b00000000 00000000000000000000000000000000
      0800030064753000 10001200 0900010064756d6d79000000`);
    const ours = encodeAddLink({ kind: 'dummy', name: 'du0' });
    expect(withoutNul(shapeOf(ours, 16, LINK))).toEqual(shapeOf(golden, 16, LINK));
  });

  it.each<[string, LinkSpec]>([
    ['name', { kind: 'bridge', name: '' }],
    ['name', { kind: 'bridge', name: 'sixteen-letters!' }],
    ['name', { kind: 'bridge', name: 'ünïcödé-1234' }],
    ['name', { kind: 'bridge', name: 'a/b' }],
    ['name', { kind: 'bridge', name: '..' }],
    ['name', { kind: 'bridge', name: 'veth%d' }],
    ['name', { kind: 'bridge', name: 'a b' }],
    ['mtu', { kind: 'bridge', name: 'b', mtu: 67 }],
    ['address', { kind: 'bridge', name: 'b', address: '02:00:00:00:00' }],
    ['peer.name', { kind: 'veth', name: 'v', peer: { name: 'a:b' } }],
    ['peer.mtu', { kind: 'veth', name: 'v', peer: { name: 'w', mtu: 1.5 } }],
    ['peer.address', { kind: 'veth', name: 'v', peer: { name: 'w', address: 'zz:00:00:00:00:00' } }],
    ['id', { kind: 'geneve', name: 'g', id: 1 << 24, remote: '10.0.0.1' }],
    ['remote', { kind: 'geneve', name: 'g', id: 1, remote: 'nowhere' }],
    ['port', { kind: 'geneve', name: 'g', id: 1, remote: '10.0.0.1', port: 0 }],
    ['local', { kind: 'vxlan', name: 'x', id: 1, local: '10.0.0' }],
    ['kind', { kind: 'token-ring', name: 't' } as unknown as LinkSpec],
  ])('names the field at fault: %s', (field, link) => {
    const fake = new FakeNetlink();
    expect(() => addLink(fake, link)).toThrow(
      expect.objectContaining({ name: expect.stringMatching(/^Invalid/), field }),
    );
    expect(fake.requests).toEqual([]);
  });
});

describe('listLinks, from a script', () => {
  it('names masters and peers, and calls a link of an unknown kind other', () => {
    const answer = (index: number, name: string, write: (writer: MessageWriter) => void) => {
      const writer = new MessageWriter().begin(16, 0).u32(0).s32(index).u32(1).u32(0).attrString(3, name);
      write(writer);
      return { type: 16, payload: Buffer.from(writer.end().finish().subarray(16)) };
    };
    const fake = new FakeNetlink(() => [
      answer(1, 'br0', (w) => w.nest(18, () => w.attrString(1, 'bridge').nest(2, () => w.attrU32(5, 1)))),
      answer(2, 'v0', (w) =>
        w
          .attrU32(10, 1)
          .attrU32(5, 3)
          .nest(18, () => w.attrString(1, 'veth')),
      ),
      answer(3, 'v1', (w) => w.attrU32(5, 2).nest(18, () => w.attrString(1, 'veth'))),
      answer(4, 'far', (w) =>
        w
          .attrU32(5, 2)
          .attrS32(37, 0)
          .nest(18, () => w.attrString(1, 'veth')),
      ),
      answer(5, 'wg0', (w) => w.nest(18, () => w.attrString(1, 'wireguard'))),
      answer(6, 'gn', (w) =>
        w.nest(18, () =>
          w.attrString(1, 'geneve').nest(2, () =>
            w
              .attrU32(1, 77)
              .attrBytes(2, Buffer.of(10, 0, 0, 2))
              .attrU16be(5, 6081),
          ),
        ),
      ),
    ]);
    expect(listLinks(fake)).toMatchObject([
      { kind: 'bridge', name: 'br0', stp: true },
      { kind: 'veth', name: 'v0', master: 'br0', peer: { name: 'v1' } },
      { kind: 'veth', name: 'v1', peer: { name: 'v0' } },
      { kind: 'veth', name: 'far', linkIndex: 2 },
      { kind: 'other', name: 'wg0', kernelKind: 'wireguard' },
      { kind: 'geneve', name: 'gn', id: 77, remote: '10.0.0.2', port: 6081 },
    ]);
    expect(listLinks(fake)[3]).not.toHaveProperty('peer');
  });
});

interface IpLink {
  ifname: string;
  mtu: number;
  address: string;
  flags: string[];
  master?: string;
  link?: string;
  linkinfo?: { info_kind: string; info_data?: Record<string, unknown> };
}

describeRequiring('links in the kernel', { root: true, tools: ['ip'] }, () => {
  it('made here are what ip -j reads', async () => {
    await withNamespaces(['a', 'b'], (a, b) => {
      using netlink = openNetlink({ family: 'route', namespace: a });
      addLink(netlink, { kind: 'bridge', name: 'br0', stp: true, up: true });
      addLink(netlink, {
        kind: 'veth',
        name: 'va',
        mtu: 1400,
        address: '02:00:00:00:00:01',
        up: true,
        master: 'br0',
        peer: { name: 'eth0', namespace: b, mtu: 1300, address: '02:00:00:00:00:02' },
      });
      const links = JSON.parse(runIn(a, 'ip', '-j', '-d', 'link')) as IpLink[];
      expect(links.map(({ ifname }) => ifname)).toEqual(['lo', 'br0', 'va']);
      expect(links[1]).toMatchObject({ linkinfo: { info_kind: 'bridge', info_data: { stp_state: 1 } } });
      expect(links[2]).toMatchObject({
        mtu: 1400,
        address: '02:00:00:00:00:01',
        master: 'br0',
        linkinfo: { info_kind: 'veth' },
      });
      expect(links[2]!.flags).toContain('UP');
      const there = JSON.parse(runIn(b, 'ip', '-j', 'link', 'show', 'eth0')) as IpLink[];
      expect(there).toMatchObject([{ mtu: 1300, address: '02:00:00:00:00:02' }]);
      expect(there[0]!.flags).not.toContain('UP');
    });
  });

  it('made by ip are what is listed here', async () => {
    await withNamespaces(['a'], (a) => {
      runIn(a, 'ip', 'link', 'add', 'br0', 'address', '02:00:00:00:00:03', 'type', 'bridge');
      runIn(a, 'ip', 'link', 'add', 'va', 'mtu', '1400', 'type', 'veth', 'peer', 'name', 'vb');
      runIn(a, 'ip', 'link', 'set', 'va', 'master', 'br0', 'up');
      runIn(a, 'ip', 'link', 'set', 'vb', 'up');
      using netlink = openNetlink({ family: 'route', namespace: a });
      expect(getLink(netlink, 'lo')).toMatchObject({ kind: 'other', kernelKind: '', loopback: true, index: 1 });
      expect(getLink(netlink, 'br0')).toMatchObject({ kind: 'bridge', stp: false, address: '02:00:00:00:00:03' });
      expect(getLink(netlink, 'va')).toMatchObject({
        kind: 'veth',
        mtu: 1400,
        up: true,
        carrier: true,
        master: 'br0',
        peer: { name: 'vb' },
      });
      expect(getLink(netlink, 'nobody')).toBeUndefined();
    });
  });

  it('listed in one namespace can be made in another', async () => {
    await withNamespaces(['a', 'b'], (a, b) => {
      runIn(a, 'ip', 'link', 'add', 'br0', 'type', 'bridge', 'stp_state', '1');
      runIn(a, 'ip', 'link', 'add', 'va', 'type', 'veth', 'peer', 'name', 'vb');
      runIn(a, 'ip', 'link', 'set', 'va', 'master', 'br0', 'up');
      using from = openNetlink({ family: 'route', namespace: a });
      using to = openNetlink({ family: 'route', namespace: b });
      const links = listLinks(from);
      for (const link of links) if (link.kind === 'bridge' || link.name === 'va') addLink(to, link as LinkSpec);
      const settings = ({ index, linkIndex, carrier, ...rest }: Link) => rest;
      const twice = listLinks(to).map(settings);
      expect(twice.find(({ name }) => name === 'va')).toEqual(links.map(settings).find(({ name }) => name === 'va'));
      expect(twice.map(({ name }) => name).sort()).toEqual(['br0', 'lo', 'va', 'vb']);
    });
  });

  it('are changed, renamed, moved and deleted', async () => {
    await withNamespaces(['a', 'b'], (a, b) => {
      using netlink = openNetlink({ family: 'route', namespace: a });
      addLink(netlink, { kind: 'bridge', name: 'br0' });
      addLink(netlink, { kind: 'veth', name: 'va', peer: { name: 'vb' } });
      setLink(netlink, 'va', { name: 'vc', mtu: 1234, address: '02:00:00:00:00:09', master: 'br0', up: true });
      expect(getLink(netlink, 'vc')).toMatchObject({
        mtu: 1234,
        address: '02:00:00:00:00:09',
        master: 'br0',
        up: true,
      });
      setLink(netlink, 'vc', { master: null, up: false });
      expect(getLink(netlink, 'vc')).toMatchObject({ up: false });
      expect(getLink(netlink, 'vc')).not.toHaveProperty('master');
      moveLink(netlink, 'vb', b, { name: 'eth0' });
      expect(getLink(netlink, 'vb')).toBeUndefined();
      expect((JSON.parse(runIn(b, 'ip', '-j', 'link')) as IpLink[]).map(({ ifname }) => ifname)).toContain('eth0');
      expect(getLink(netlink, 'vc')).not.toHaveProperty('peer');
      deleteLink(netlink, 'vc');
      expect(runIn(b, 'ip', '-j', 'link')).not.toContain('eth0');
    });
  });

  it('that are not there: ENODEV with the name, unless missingOk', async () => {
    await withNamespaces(['a'], (a) => {
      using netlink = openNetlink({ family: 'route', namespace: a });
      expect(() => setLink(netlink, 'nobody', { up: true })).toThrow(
        expect.objectContaining({ code: 'ENODEV', field: 'name', message: expect.stringContaining('nobody') }),
      );
      expect(() => addLink(netlink, { kind: 'veth', name: 'va', master: 'nobody' })).toThrow(
        expect.objectContaining({ code: 'ENODEV', field: 'master' }),
      );
      expect(() => deleteLink(netlink, 'nobody')).toThrow(expect.objectContaining({ code: 'ENODEV' }));
      deleteLink(netlink, 'nobody', { missingOk: true });
      addLink(netlink, { kind: 'bridge', name: 'br0' });
      expect(() => addLink(netlink, { kind: 'bridge', name: 'br0' })).toThrow(
        expect.objectContaining({ code: 'EEXIST', op: 'route.addLink', errno: 17 }),
      );
    });
  });
});

function dataOf(shape: ReturnType<typeof shapeOf>) {
  return (shape.attributes[18] as Record<string, Record<string, string>>)[2]!;
}

/** Without the NUL that ends IFLA_INFO_KIND, which `ip` leaves out. */
function withoutNul(shape: ReturnType<typeof shapeOf>) {
  const info = shape.attributes[18] as Record<string, string>;
  return { ...shape, attributes: { ...shape.attributes, 18: { ...info, 1: info[1]!.slice(0, -2) } } };
}
