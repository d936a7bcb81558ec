import { describe, expect, it } from 'vitest';
import { FakeNetlink, openNetlink, readMessages } from '../../../src/netlink/index.ts';
import { decodeAddress, encodeAddress } from '../../../src/netlink/route/address.ts';
import { RTM_DELADDR, RTM_NEWADDR } from '../../../src/netlink/route/constants.ts';
import {
  addAddress,
  addLink,
  deleteAddress,
  type LinkAddress,
  listAddresses,
  setLink,
} from '../../../src/netlink/route/index.ts';
import { runIn, withNamespaces } from '../../support/namespaces.ts';
import { describeRequiring } from '../../support/require.ts';
import { hex, shapeOf } from '../golden.ts';

const CREATE_EXCL = 0x600;

describe('encodeAddress, against the traffic of ip 6.1', () => {
  it.each<[string, number, number, number, LinkAddress, string]>([
    [
      'ip addr add 10.1.0.1/24 brd 10.1.0.255 dev v0',
      RTM_NEWADDR,
      CREATE_EXCL,
      3,
      { device: 'v0', ip: '10.1.0.1', prefixLength: 24, broadcast: '10.1.0.255' },
      `30000000140005064738026b00000000 0218000003000000
       080002000a010001 080004000a0100ff 080001000a010001`,
    ],
    [
      'ip addr add 10.1.0.1/32 peer 10.1.0.9 dev v1',
      RTM_NEWADDR,
      CREATE_EXCL,
      2,
      { device: 'v1', ip: '10.1.0.1', prefixLength: 32, peer: '10.1.0.9' },
      '28000000140005064738026b00000000 0220000002000000 080002000a010001 080001000a010009',
    ],
    [
      'ip addr add fd00::1/64 dev v0 nodad noprefixroute',
      RTM_NEWADDR,
      CREATE_EXCL,
      3,
      { device: 'v0', ip: 'fd00::1', prefixLength: 64, noDad: true, noPrefixRoute: true },
      `48000000140005064738026b00000000 0a40020003000000 14000200fd000000000000000000000000000001
       0800080002020000 14000100fd000000000000000000000000000001`,
    ],
    [
      'ip addr del 10.1.0.1/32 peer 10.1.0.9 dev v1',
      RTM_DELADDR,
      0,
      2,
      { device: 'v1', ip: '10.1.0.1', prefixLength: 32, peer: '10.1.0.9' },
      '28000000150005004738026b00000000 0220000002000000 080002000a010001 080001000a010009',
    ],
  ])('%s', (_, type, flags, index, address, golden) => {
    expect(shapeOf(encodeAddress(type, flags, address, index, 'test'), 8)).toEqual(shapeOf(hex(golden), 8));
  });

  it.each<[string, Partial<LinkAddress>]>([
    ['ip', { ip: '10.1.0.1/24' }],
    ['ip', { ip: 'localhost' }],
    ['prefixLength', { prefixLength: 33 }],
    ['prefixLength', { ip: 'fd00::1', prefixLength: 129 }],
    ['prefixLength', { prefixLength: 1.5 }],
    ['peer', { peer: 'fd00::1' }],
    ['broadcast', { broadcast: 'fd00::1' }],
    ['scope', { scope: 'galaxy' as 'global' }],
    ['scope', { scope: 256 }],
    ['device', { device: '' }],
  ])('names the field at fault: %s of %o', (field, wrong) => {
    const fake = new FakeNetlink((request) =>
      request.type === 18 ? [{ type: 16, payload: Buffer.alloc(16) }] : undefined,
    );
    const address = { device: 'v0', ip: '10.1.0.1', prefixLength: 24, ...wrong };
    expect(() => addAddress(fake, address)).toThrow(
      expect.objectContaining({ name: expect.stringMatching(/^Invalid/), field }),
    );
    expect(fake.requests.filter(({ type }) => type === RTM_NEWADDR)).toEqual([]);
  });
});

describe('decodeAddress, of what the kernel answered to ip', () => {
  const names = new Map([[3, 'v0']]);
  const payload = (bytes: string) => readMessages(hex(bytes))[0]!.payload;

  it('inet 10.1.0.1/24 brd 10.1.0.255 scope global v0', () => {
    const bytes = `54000000140022004838026b284e0000 0218800003000000 080001000a010001 080002000a010001 080004000a0100ff
      0700030076300000 0800080080000000 14000600ffffffffffffffff82ad030082ad0300`;
    expect(decodeAddress(payload(bytes), names)).toEqual({
      family: 4,
      device: 'v0',
      ip: '10.1.0.1',
      prefixLength: 24,
      broadcast: '10.1.0.255',
      scope: 'global',
      label: 'v0',
      noDad: false,
      noPrefixRoute: false,
      tentative: false,
      duplicate: false,
    });
  });

  it('inet6 fd00::1/64 scope global nodad noprefixroute', () => {
    const bytes = `48000000140022004838026b284e0000 0a40820003000000 14000100fd000000000000000000000000000001
      14000600ffffffffffffffff83ad030083ad0300 0800080082020000`;
    expect(decodeAddress(payload(bytes), names)).toMatchObject({
      family: 6,
      ip: 'fd00::1',
      noDad: true,
      noPrefixRoute: true,
    });
  });

  it('inet6 fe80::…/64 scope link tentative', () => {
    const bytes = `50000000140022004838026b284e0000 0a40c0fd03000000 14000100fe80000000000000c0eb3afffe46deb5
      14000600ffffffffffffffff7bad03007bad0300 08000800c0000000 05000b0003000000`;
    expect(decodeAddress(payload(bytes), names)).toMatchObject({
      ip: 'fe80::c0eb:3aff:fe46:deb5',
      scope: 'link',
      tentative: true,
    });
  });
});

interface IpAddresses {
  ifname: string;
  addr_info: {
    local: string;
    prefixlen: number;
    scope: string;
    label?: string;
    broadcast?: string;
    address?: string;
  }[];
}

describeRequiring('addresses in the kernel', { root: true, tools: ['ip'] }, () => {
  it('added here are what ip -j reads', async () => {
    await withNamespaces(['a'], (a) => {
      using netlink = openNetlink({ family: 'route', namespace: a });
      addLink(netlink, { kind: 'veth', name: 'v0', peer: { name: 'v1' } });
      addAddress(netlink, { device: 'v0', ip: '10.1.0.1', prefixLength: 24, broadcast: '10.1.0.255', label: 'v0:x' });
      addAddress(netlink, { device: 'v0', ip: '10.2.0.1', prefixLength: 32, peer: '10.2.0.9' });
      addAddress(netlink, { device: 'v0', ip: '127.0.0.9', prefixLength: 8 });
      addAddress(netlink, { device: 'v0', ip: 'fd00::1', prefixLength: 64, noDad: true });
      const v0 = (JSON.parse(runIn(a, 'ip', '-j', 'addr', 'show', 'v0')) as IpAddresses[])[0]!;
      expect(v0.addr_info.sort((x, y) => x.local.localeCompare(y.local))).toMatchObject([
        { local: '10.1.0.1', prefixlen: 24, broadcast: '10.1.0.255', scope: 'global', label: 'v0:x' },
        { local: '10.2.0.1', prefixlen: 32, address: '10.2.0.9' },
        { local: '127.0.0.9', prefixlen: 8, scope: 'host' },
        { local: 'fd00::1', prefixlen: 64, scope: 'global' },
      ]);
    });
  });

  it('added by ip are listed here, and what is listed can be deleted and added again', async () => {
    await withNamespaces(['a'], (a) => {
      using netlink = openNetlink({ family: 'route', namespace: a });
      addLink(netlink, { kind: 'veth', name: 'v0', peer: { name: 'v1' } });
      runIn(a, 'ip', 'addr', 'add', '10.1.0.1/24', 'brd', '+', 'dev', 'v0', 'scope', 'link');
      runIn(a, 'ip', 'addr', 'add', '10.2.0.1', 'peer', '10.2.0.9', 'dev', 'v0');
      runIn(a, 'ip', 'addr', 'add', 'fd00::1/64', 'dev', 'v0', 'nodad', 'noprefixroute');
      setLink(netlink, 'lo', { up: true });
      const before = listAddresses(netlink, { device: 'v0' });
      expect(before.map(({ ip, prefixLength, scope }) => [ip, prefixLength, scope])).toEqual([
        ['10.1.0.1', 24, 'link'],
        ['10.2.0.1', 32, 'global'],
        ['fd00::1', 64, 'global'],
      ]);
      expect(listAddresses(netlink, { family: 6 }).map(({ ip }) => ip)).toEqual(['::1', 'fd00::1']);
      for (const address of before) deleteAddress(netlink, address);
      expect(listAddresses(netlink, { device: 'v0' })).toEqual([]);
      for (const address of before) addAddress(netlink, address);
      expect(listAddresses(netlink, { device: 'v0' })).toEqual(before);
    });
  });

  it('twice: EEXIST; none: EADDRNOTAVAIL unless missingOk; no such link: ENODEV', async () => {
    await withNamespaces(['a'], (a) => {
      using netlink = openNetlink({ family: 'route', namespace: a });
      const address = { device: 'lo', ip: '10.1.0.1', prefixLength: 32 };
      addAddress(netlink, address);
      expect(() => addAddress(netlink, address)).toThrow(expect.objectContaining({ code: 'EEXIST' }));
      deleteAddress(netlink, address);
      expect(() => deleteAddress(netlink, address)).toThrow(expect.objectContaining({ code: 'EADDRNOTAVAIL' }));
      deleteAddress(netlink, address, { missingOk: true });
      expect(() => addAddress(netlink, { ...address, device: 'nobody' })).toThrow(
        expect.objectContaining({ code: 'ENODEV', field: 'device' }),
      );
    });
  });
});
