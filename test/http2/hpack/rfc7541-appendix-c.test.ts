import { describe, expect, it } from 'vitest';
import type { HeaderField } from '../../../src/http2/header-field.ts';
import { HpackDecoder } from '../../../src/http2/hpack/decoder.ts';
import { HpackEncoder, type HpackEncoderOptions } from '../../../src/http2/hpack/encoder.ts';

interface Step {
  readonly section: string;
  readonly hex: string;
  readonly fields: readonly HeaderField[];
  readonly tableBytes: number;
}

const GET = (scheme: string, path: string, ...more: HeaderField[]): HeaderField[] => [
  [':method', 'GET'],
  [':scheme', scheme],
  [':path', path],
  [':authority', 'www.example.com'],
  ...more,
];
const requests = [
  GET('http', '/'),
  GET('http', '/', ['cache-control', 'no-cache']),
  GET('https', '/index.html', ['custom-key', 'custom-value']),
];
const responses: HeaderField[][] = [
  [
    [':status', '302'],
    ['cache-control', 'private'],
    ['date', 'Mon, 21 Oct 2013 20:13:21 GMT'],
    ['location', 'https://www.example.com'],
  ],
  [
    [':status', '307'],
    ['cache-control', 'private'],
    ['date', 'Mon, 21 Oct 2013 20:13:21 GMT'],
    ['location', 'https://www.example.com'],
  ],
  [
    [':status', '200'],
    ['cache-control', 'private'],
    ['date', 'Mon, 21 Oct 2013 20:13:22 GMT'],
    ['location', 'https://www.example.com'],
    ['content-encoding', 'gzip'],
    ['set-cookie', 'foo=ASDJKHQKBZXOQWEOPIUAXQWEOIU; max-age=3600; version=1'],
  ],
];

function steps(section: string, lists: HeaderField[][], tableBytes: number[], ...hex: string[]): Step[] {
  return lists.map((fields, i) => ({
    section: `${section}.${i + 1}`,
    hex: hex[i]!.replaceAll(' ', ''),
    fields,
    tableBytes: tableBytes[i]!,
  }));
}

function run(maxTableBytes: number, options: HpackEncoderOptions, all: Step[]): void {
  const decoder = new HpackDecoder(maxTableBytes, 65_536);
  const encoder = new HpackEncoder({ ...options, maxTableBytes });
  const out = Buffer.alloc(1024);
  // The RFC's contexts start with the smaller table; ours has to say so once, in a block of its own here.
  const update = out.subarray(0, encoder.encode([], out, 0));
  decoder.decode(update, 0, update.length);
  for (const step of all) {
    const bytes = Buffer.from(step.hex, 'hex');
    expect(decoder.decode(bytes, 0, bytes.length), `${step.section} decoded`).toEqual(step.fields);
    expect(decoder.tableBytes, `${step.section} table of the decoder`).toBe(step.tableBytes);
    const end = encoder.encode(step.fields, out, 0);
    expect(out.toString('hex', 0, end), `${step.section} encoded`).toBe(step.hex);
    expect(encoder.tableBytes, `${step.section} table of the encoder`).toBe(step.tableBytes);
  }
}

describe('RFC 7541 appendix C', () => {
  it.each([
    ['C.2.1', '400a637573746f6d2d6b65790d637573746f6d2d686561646572', ['custom-key', 'custom-header'], 55, {}],
    ['C.2.2', '040c2f73616d706c652f70617468', [':path', '/sample/path'], 0, { unindexed: [':path'] }],
    ['C.2.3', '100870617373776f726406736563726574', ['password', 'secret'], 0, { neverIndexed: ['password'] }],
    ['C.2.4', '82', [':method', 'GET'], 0, {}],
  ] as const)('%s', (section, hex, field, tableBytes, options) => {
    run(4096, { huffman: false, ...options }, [{ section, hex, fields: [field], tableBytes }]);
  });

  it('C.3 requests without Huffman', () => {
    run(
      4096,
      { huffman: false },
      steps(
        'C.3',
        requests,
        [57, 110, 164],
        '8286 8441 0f77 7777 2e65 7861 6d70 6c65 2e63 6f6d',
        '8286 84be 5808 6e6f 2d63 6163 6865',
        '8287 85bf 400a 6375 7374 6f6d 2d6b 6579 0c63 7573 746f 6d2d 7661 6c75 65',
      ),
    );
  });

  it('C.4 requests with Huffman', () => {
    run(
      4096,
      {},
      steps(
        'C.4',
        requests,
        [57, 110, 164],
        '8286 8441 8cf1 e3c2 e5f2 3a6b a0ab 90f4 ff',
        '8286 84be 5886 a8eb 1064 9cbf',
        '8287 85bf 4088 25a8 49e9 5ba9 7d7f 8925 a849 e95b b8e8 b4bf',
      ),
    );
  });

  it('C.5 responses without Huffman, in a table of 256 bytes', () => {
    run(
      256,
      { huffman: false },
      steps(
        'C.5',
        responses,
        [222, 222, 215],
        `4803 3330 3258 0770 7269 7661 7465 611d 4d6f 6e2c 2032 3120 4f63 7420 3230 3133 2032 303a 3133 3a32 3120 474d
         546e 1768 7474 7073 3a2f 2f77 7777 2e65 7861 6d70 6c65 2e63 6f6d`.replaceAll(/\s/g, ''),
        '4803 3330 37c1 c0bf',
        `88c1 611d 4d6f 6e2c 2032 3120 4f63 7420 3230 3133 2032 303a 3133 3a32 3220 474d 54c0 5a04 677a 6970 7738 666f
         6f3d 4153 444a 4b48 514b 425a 584f 5157 454f 5049 5541 5851 5745 4f49 553b 206d 6178 2d61 6765 3d33 3630 303b
         2076 6572 7369 6f6e 3d31`.replaceAll(/\s/g, ''),
      ),
    );
  });

  it('C.6 responses with Huffman, in a table of 256 bytes', () => {
    run(
      256,
      {},
      steps(
        'C.6',
        responses,
        [222, 222, 215],
        `4882 6402 5885 aec3 771a 4b61 96d0 7abe 9410 54d4 44a8 2005 9504 0b81 66e0 82a6 2d1b ff6e 919d 29ad 1718 63c7
         8f0b 97c8 e9ae 82ae 43d3`.replaceAll(/\s/g, ''),
        '4883 640e ffc1 c0bf',
        `88c1 6196 d07a be94 1054 d444 a820 0595 040b 8166 e084 a62d 1bff c05a 839b d9ab 77ad 94e7 821d d7f2 e6c7 b335
         dfdf cd5b 3960 d5af 2708 7f36 72c1 ab27 0fb5 291f 9587 3160 65c0 03ed 4ee5 b106 3d50 07`.replaceAll(/\s/g, ''),
      ),
    );
  });
});
