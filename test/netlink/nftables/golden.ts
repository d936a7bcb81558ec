/**
 * Rules as nft 1.0.6 sent them (`nft --debug=netlink -f`, `strace -e trace=sendmsg -e write=all`): the text it was given, its own
 * readable form, and the bytes inside NFTA_RULE_EXPRESSIONS. `ours` is how the library's builder says the same.
 */
import { NFT_CMP_EQ } from '../../../src/netlink/nftables/expressions/cmp.ts';
import { IP_CT_DIR_ORIGINAL, NFT_CT_SRC } from '../../../src/netlink/nftables/expressions/ct.ts';
import { NFT_SOCKET_TRANSPARENT } from '../../../src/netlink/nftables/expressions/socket.ts';
import type { Expression } from '../../../src/netlink/nftables/index.ts';
import { match, statement } from '../../../src/netlink/nftables/index.ts';

export interface Golden {
  readonly name: string;
  readonly chain: 'mangle' | 'input' | 'output' | 'prenat' | 'postnat';
  readonly text: string;
  readonly debug: readonly string[];
  readonly hex: string;
  readonly ours: readonly Expression[];
}

/** nft gives every set it names a number of the transaction, also where the set is older. */
function numbered(expressions: readonly Expression[]): Expression[] {
  return expressions.map((expression) => (expression.type === 'lookup' ? { ...expression, setId: 1 } : expression));
}

export const golden: readonly Golden[] = [
  {
    name: 'meta',
    chain: 'mangle',
    text: 'iifname "istioin" oifname "eth0" meta l4proto tcp',
    debug: [
      '[ meta load iifname => reg 1 ]',
      '[ cmp eq reg 1 0x69747369 0x006e696f 0x00000000 0x00000000 ]',
      '[ meta load oifname => reg 1 ]',
      '[ cmp eq reg 1 0x30687465 0x00000000 0x00000000 0x00000000 ]',
      '[ meta load l4proto => reg 1 ]',
      '[ cmp eq reg 1 0x00000006 ]',
    ],
    hex:
      '24000180090001006d6574610000000014000280080002000000000608000100000000013800018008000100636d7000' +
      '2c000280080001000000000108000200000000001800038014000100697374696f696e00000000000000000024000180' +
      '090001006d6574610000000014000280080002000000000708000100000000013800018008000100636d70002c000280' +
      '080001000000000108000200000000001800038014000100657468300000000000000000000000002400018009000100' +
      '6d6574610000000014000280080002000000001008000100000000012c00018008000100636d70002000028008000100' +
      '0000000108000200000000000c0003800500010006000000',
    ours: [...match.iifname('istioin'), ...match.oifname('eth0'), ...match.l4proto('tcp')],
  },
  {
    name: 'payload',
    chain: 'mangle',
    text: 'ip saddr 10.244.1.2 udp dport 6081',
    debug: [
      '[ payload load 4b @ network header + 12 => reg 1 ]',
      '[ cmp eq reg 1 0x0201f40a ]',
      '[ meta load l4proto => reg 1 ]',
      '[ cmp eq reg 1 0x00000011 ]',
      '[ payload load 2b @ transport header + 2 => reg 1 ]',
      '[ cmp eq reg 1 0x0000c117 ]',
    ],
    hex:
      '340001800c0001007061796c6f6164002400028008000100000000010800020000000001080003000000000c08000400' +
      '000000042c00018008000100636d700020000280080001000000000108000200000000000c000380080001000af40102' +
      '24000180090001006d6574610000000014000280080002000000001008000100000000012c00018008000100636d7000' +
      '20000280080001000000000108000200000000000c0003800500010011000000340001800c0001007061796c6f616400' +
      '2400028008000100000000010800020000000002080003000000000208000400000000022c00018008000100636d7000' +
      '20000280080001000000000108000200000000000c0003800600010017c10000',
    ours: [...match.source('10.244.1.2'), ...match.destinationPort('udp', 6081)],
  },
  {
    name: 'cmp',
    chain: 'mangle',
    text: 'iifname != "vethza" ip saddr != 10.244.1.2',
    debug: [
      '[ meta load iifname => reg 1 ]',
      '[ cmp neq reg 1 0x68746576 0x0000617a 0x00000000 0x00000000 ]',
      '[ payload load 4b @ network header + 12 => reg 1 ]',
      '[ cmp neq reg 1 0x0201f40a ]',
    ],
    hex:
      '24000180090001006d6574610000000014000280080002000000000608000100000000013800018008000100636d7000' +
      '2c000280080001000000000108000200000000011800038014000100766574687a610000000000000000000034000180' +
      '0c0001007061796c6f6164002400028008000100000000010800020000000001080003000000000c0800040000000004' +
      '2c00018008000100636d700020000280080001000000000108000200000000010c000380080001000af40102',
    ours: [...match.iifname('vethza', '!='), ...match.source('10.244.1.2', '!=')],
  },
  {
    name: 'bitwise',
    chain: 'mangle',
    text: 'meta mark and 0x220 == 0x220 meta mark set meta mark and 0xfffff000 or 0x400',
    debug: [
      '[ meta load mark => reg 1 ]',
      '[ bitwise reg 1 = ( reg 1 & 0x00000220 ) ^ 0x00000000 ]',
      '[ cmp eq reg 1 0x00000220 ]',
      '[ meta load mark => reg 1 ]',
      '[ bitwise reg 1 = ( reg 1 & 0xfffff000 ) ^ 0x00000400 ]',
      '[ meta set mark with reg 1 ]',
    ],
    hex:
      '24000180090001006d6574610000000014000280080002000000000308000100000000014c0001800c00010062697477' +
      '697365003c00028008000100000000010800020000000001080006000000000008000300000000040c00048008000100' +
      '200200000c00058008000100000000002c00018008000100636d70002000028008000100000000010800020000000000' +
      '0c000380080001002002000024000180090001006d657461000000001400028008000200000000030800010000000001' +
      '4c0001800c00010062697477697365003c00028008000100000000010800020000000001080006000000000008000300' +
      '000000040c0004800800010000f0ffff0c000580080001000004000024000180090001006d6574610000000014000280' +
      '08000200000000030800030000000001',
    ours: [...match.mark(0x220, 0x220), ...statement.mark(0x400, 0xfff)],
  },
  {
    name: 'ct',
    chain: 'mangle',
    text: 'ct mark and 0x210 == 0x210 ct mark set ct mark or 0x210',
    debug: [
      '[ ct load mark => reg 1 ]',
      '[ bitwise reg 1 = ( reg 1 & 0x00000210 ) ^ 0x00000000 ]',
      '[ cmp eq reg 1 0x00000210 ]',
      '[ ct load mark => reg 1 ]',
      '[ bitwise reg 1 = ( reg 1 & 0xfffffdef ) ^ 0x00000210 ]',
      '[ ct set mark with reg 1 ]',
    ],
    hex:
      '20000180070001006374000014000280080002000000000308000100000000014c0001800c0001006269747769736500' +
      '3c00028008000100000000010800020000000001080006000000000008000300000000040c0004800800010010020000' +
      '0c00058008000100000000002c00018008000100636d700020000280080001000000000108000200000000000c000380' +
      '080001001002000020000180070001006374000014000280080002000000000308000100000000014c0001800c000100' +
      '62697477697365003c00028008000100000000010800020000000001080006000000000008000300000000040c000480' +
      '08000100effdffff0c000580080001001002000020000180070001006374000014000280080002000000000308000400' +
      '00000001',
    ours: [...match.ctMark(0x210, 0x210), ...statement.ctMark(0x210, 0x210)],
  },
  {
    name: 'ct state',
    chain: 'mangle',
    text: 'ct state established,related',
    debug: [
      '[ ct load state => reg 1 ]',
      '[ bitwise reg 1 = ( reg 1 & 0x00000006 ) ^ 0x00000000 ]',
      '[ cmp neq reg 1 0x00000000 ]',
    ],
    hex:
      '2000018007000100637400001400028008000200000000000800010000000001440001800c0001006269747769736500' +
      '340002800800010000000001080002000000000108000300000000040c00048008000100060000000c00058008000100' +
      '000000002c00018008000100636d700020000280080001000000000108000200000000010c0003800800010000000000',
    ours: match.ctState('established', 'related'),
  },
  {
    name: 'ct original',
    chain: 'mangle',
    text: 'ct original saddr 10.244.1.10',
    debug: ['[ ct load src => reg 1 , dir original ]', '[ cmp eq reg 1 0x0a01f40a ]'],
    hex:
      '2800018007000100637400001c0002800800020000000008080001000000000105000300000000002c00018008000100' +
      '636d700020000280080001000000000108000200000000000c000380080001000af4010a',
    ours: [
      { type: 'ct', key: NFT_CT_SRC, dreg: 1, direction: IP_CT_DIR_ORIGINAL },
      { type: 'cmp', sreg: 1, op: NFT_CMP_EQ, value: Buffer.from([10, 244, 1, 10]) },
    ],
  },
  {
    name: 'who opened the connection',
    chain: 'mangle',
    text: 'ct original ip saddr @pods',
    debug: ['[ ct load src_ip => reg 1 , dir original ]', '[ lookup reg 1 set pods ]'],
    hex:
      '2800018007000100637400001c000280080002000000001308000100000000010500030000000000300001800b000100' +
      '6c6f6f6b7570000020000280080002000000000109000100706f6473000000000800040000000001',
    ours: numbered(match.originalSourceInSet('pods')),
  },
  {
    name: 'who answers',
    chain: 'mangle',
    text: 'ct reply ip saddr @pods',
    debug: ['[ ct load src_ip => reg 1 , dir reply ]', '[ lookup reg 1 set pods ]'],
    hex:
      '2800018007000100637400001c000280080002000000001308000100000000010500030001000000300001800b000100' +
      '6c6f6f6b7570000020000280080002000000000109000100706f6473000000000800040000000001',
    ours: numbered(match.replySourceInSet('pods')),
  },
  {
    name: 'a SYN alone',
    chain: 'mangle',
    text: 'tcp flags & (fin | syn | rst | ack) == syn',
    debug: [
      '[ meta load l4proto => reg 1 ]',
      '[ cmp eq reg 1 0x00000006 ]',
      '[ payload load 1b @ transport header + 13 => reg 1 ]',
      '[ bitwise reg 1 = ( reg 1 & 0x00000017 ) ^ 0x00000000 ]',
      '[ cmp eq reg 1 0x00000002 ]',
    ],
    hex:
      '24000180090001006d6574610000000014000280080002000000001008000100000000012c00018008000100636d7000' +
      '20000280080001000000000108000200000000000c0003800500010006000000340001800c0001007061796c6f616400' +
      '2400028008000100000000010800020000000002080003000000000d08000400000000014c0001800c00010062697477' +
      '697365003c00028008000100000000010800020000000001080006000000000008000300000000010c00048005000100' +
      '170000000c00058005000100000000002c00018008000100636d70002000028008000100000000010800020000000000' +
      '0c0003800500010002000000',
    ours: match.tcpSyn(),
  },
  {
    name: 'lookup',
    chain: 'mangle',
    text: 'ip saddr @pods',
    debug: ['[ payload load 4b @ network header + 12 => reg 1 ]', '[ lookup reg 1 set pods ]'],
    hex:
      '340001800c0001007061796c6f6164002400028008000100000000010800020000000001080003000000000c08000400' +
      '00000004300001800b0001006c6f6f6b7570000020000280080002000000000109000100706f64730000000008000400' +
      '00000001',
    ours: numbered(match.sourceInSet('pods')),
  },
  {
    name: 'lookup inverted',
    chain: 'mangle',
    text: 'ip daddr != @pods',
    debug: ['[ payload load 4b @ network header + 16 => reg 1 ]', '[ lookup reg 1 set pods 0x1 ]'],
    hex:
      '340001800c0001007061796c6f6164002400028008000100000000010800020000000001080003000000001008000400' +
      '00000004380001800b0001006c6f6f6b7570000028000280080002000000000109000100706f64730000000008000400' +
      '000000010800050000000001',
    ours: numbered(match.destinationInSet('pods', 4, '!=')),
  },
  {
    name: 'immediate return',
    chain: 'mangle',
    text: 'return',
    debug: ['[ immediate reg 0 return ]'],
    hex: '300001800e000100696d6d6564696174650000001c0002800800010000000000100002800c00028008000100fffffffb',
    ours: statement.return(),
  },
  {
    name: 'immediate jump',
    chain: 'mangle',
    text: 'jump save',
    debug: ['[ immediate reg 0 jump -> save ]'],
    hex:
      '3c0001800e000100696d6d6564696174650000002800028008000100000000001c0002801800028008000100fffffffd' +
      '090002007361766500000000',
    ours: statement.jump('save'),
  },
  {
    name: 'immediate goto',
    chain: 'mangle',
    text: 'goto save',
    debug: ['[ immediate reg 0 goto -> save ]'],
    hex:
      '3c0001800e000100696d6d6564696174650000002800028008000100000000001c0002801800028008000100fffffffc' +
      '090002007361766500000000',
    ours: statement.goto('save'),
  },
  {
    name: 'immediate drop',
    chain: 'mangle',
    text: 'drop',
    debug: ['[ immediate reg 0 drop ]'],
    hex: '300001800e000100696d6d6564696174650000001c0002800800010000000000100002800c0002800800010000000000',
    ours: statement.drop(),
  },
  {
    name: 'counter',
    chain: 'mangle',
    text: 'counter accept',
    debug: ['[ counter pkts 0 bytes 0 ]', '[ immediate reg 0 accept ]'],
    hex:
      '140001800c000100636f756e7465720004000280300001800e000100696d6d6564696174650000001c00028008000100' +
      '00000000100002800c0002800800010000000001',
    ours: [...statement.counter(), ...statement.accept()],
  },
  {
    name: 'counter with values',
    chain: 'mangle',
    text: 'counter packets 7 bytes 1234567890123',
    debug: ['[ counter pkts 7 bytes 1234567890123 ]'],
    hex: '2c0001800c000100636f756e746572001c0002800c0001000000011f71fb04cb0c0002000000000000000007',
    ours: [{ type: 'counter', packets: 7, bytes: 1_234_567_890_123 }],
  },
  {
    name: 'tproxy',
    chain: 'mangle',
    text: 'meta l4proto tcp tproxy to 127.0.0.1:15001',
    debug: [
      '[ meta load l4proto => reg 1 ]',
      '[ cmp eq reg 1 0x00000006 ]',
      '[ immediate reg 1 0x0100007f ]',
      '[ immediate reg 2 0x0000993a ]',
      '[ tproxy ip addr reg 1 port reg 2 ]',
    ],
    hex:
      '24000180090001006d6574610000000014000280080002000000001008000100000000012c00018008000100636d7000' +
      '20000280080001000000000108000200000000000c00038005000100060000002c0001800e000100696d6d6564696174' +
      '650000001800028008000100000000010c000280080001007f0000012c0001800e000100696d6d656469617465000000' +
      '1800028008000100000000020c000280060001003a9900002c0001800b0001007470726f787900001c00028008000100' +
      '0000000208000200000000010800030000000002',
    ours: [...match.l4proto('tcp'), ...statement.tproxy('127.0.0.1', 15001)],
  },
  {
    name: 'fib',
    chain: 'mangle',
    text: 'fib saddr type local',
    debug: ['[ fib saddr type => reg 1 ]', '[ cmp eq reg 1 0x00000002 ]'],
    hex:
      '2800018008000100666962001c0002800800030000000001080002000000000308000100000000012c00018008000100' +
      '636d700020000280080001000000000108000200000000000c0003800800010002000000',
    ours: match.sourceIsLocal(),
  },
  {
    name: 'socket',
    chain: 'mangle',
    text: 'socket transparent 1',
    debug: ['[ socket load transparent => reg 1 ]', '[ cmp eq reg 1 0x00000001 ]'],
    hex:
      '2c0001800b000100736f636b657400001c0002800800010000000000080002000000000108000300000000002c000180' +
      '08000100636d700020000280080001000000000108000200000000000c0003800500010001000000',
    ours: [
      { type: 'socket', key: NFT_SOCKET_TRANSPARENT, dreg: 1 },
      { type: 'cmp', sreg: 1, op: NFT_CMP_EQ, value: Buffer.from([1]) },
    ],
  },
  {
    name: 'reject',
    chain: 'input',
    text: 'meta l4proto tcp reject with tcp reset',
    debug: ['[ meta load l4proto => reg 1 ]', '[ cmp eq reg 1 0x00000006 ]', '[ reject type 1 code 0 ]'],
    hex:
      '24000180090001006d6574610000000014000280080002000000001008000100000000012c00018008000100636d7000' +
      '20000280080001000000000108000200000000000c0003800500010006000000240001800b00010072656a6563740000' +
      '1400028008000100000000010500020000000000',
    ours: [...match.l4proto('tcp'), ...statement.resetTcp()],
  },
  {
    name: 'nat dnat',
    chain: 'prenat',
    text: 'meta l4proto udp dnat to 10.244.1.2:15053',
    debug: [
      '[ meta load l4proto => reg 1 ]',
      '[ cmp eq reg 1 0x00000011 ]',
      '[ immediate reg 1 0x0201f40a ]',
      '[ immediate reg 2 0x0000cd3a ]',
      '[ nat dnat ip addr_min reg 1 proto_min reg 2 flags 0x2 ]',
    ],
    hex:
      '24000180090001006d6574610000000014000280080002000000001008000100000000012c00018008000100636d7000' +
      '20000280080001000000000108000200000000000c00038005000100110000002c0001800e000100696d6d6564696174' +
      '650000001800028008000100000000010c000280080001000af401022c0001800e000100696d6d656469617465000000' +
      '1800028008000100000000020c000280060001003acd000038000180080001006e6174002c0002800800010000000001' +
      '0800020000000002080003000000000108000500000000020800070000000002',
    ours: [...match.l4proto('udp'), ...statement.dnat('10.244.1.2', 15053)],
  },
  {
    name: 'nat null dnat',
    chain: 'prenat',
    text: 'dnat to ip daddr',
    debug: ['[ payload load 4b @ network header + 16 => reg 1 ]', '[ nat dnat ip addr_min reg 1 ]'],
    hex:
      '340001800c0001007061796c6f6164002400028008000100000000010800020000000001080003000000001008000400' +
      '0000000428000180080001006e6174001c000280080001000000000108000200000000020800030000000001',
    ours: statement.keepDestination(),
  },
  {
    name: 'nat null snat',
    chain: 'postnat',
    text: 'snat to ip saddr',
    debug: ['[ payload load 4b @ network header + 12 => reg 1 ]', '[ nat snat ip addr_min reg 1 ]'],
    hex:
      '340001800c0001007061796c6f6164002400028008000100000000010800020000000001080003000000000c08000400' +
      '0000000428000180080001006e6174001c000280080001000000000008000200000000020800030000000001',
    ours: statement.keepSource(),
  },
  {
    name: 'redirect',
    chain: 'prenat',
    text: 'meta l4proto tcp redirect to :15001',
    debug: [
      '[ meta load l4proto => reg 1 ]',
      '[ cmp eq reg 1 0x00000006 ]',
      '[ immediate reg 1 0x0000993a ]',
      '[ redir proto_min reg 1 flags 0x2 ]',
    ],
    hex:
      '24000180090001006d6574610000000014000280080002000000001008000100000000012c00018008000100636d7000' +
      '20000280080001000000000108000200000000000c00038005000100060000002c0001800e000100696d6d6564696174' +
      '650000001800028008000100000000010c000280060001003a990000240001800a000100726564697200000014000280' +
      '08000100000000010800030000000002',
    ours: [...match.l4proto('tcp'), ...statement.redirect(15001)],
  },
  {
    name: 'masquerade',
    chain: 'postnat',
    text: 'masquerade',
    debug: ['[ masq ]'],
    hex: '14000180090001006d6173710000000004000280',
    ours: statement.masquerade(),
  },
  {
    name: 'masquerade random',
    chain: 'postnat',
    text: 'masquerade random',
    debug: ['[ masq flags 0x4 ]'],
    hex: '1c000180090001006d617371000000000c0002800800010000000004',
    ours: [{ type: 'masquerade', flags: 4 }],
  },
  {
    name: 'skuid',
    chain: 'output',
    text: 'meta skuid 1337',
    debug: ['[ meta load skuid => reg 1 ]', '[ cmp eq reg 1 0x00000539 ]'],
    hex:
      '24000180090001006d6574610000000014000280080002000000000a08000100000000012c00018008000100636d7000' +
      '20000280080001000000000108000200000000000c0003800800010039050000',
    ours: match.socketUser(1337),
  },
];
