/** What the pod's rules note of a connection in the pod that the proxy has a hand in (facts section 7.2). */
export const NOTED_MARK = '0x111';

/** Where the pod's answers with that mark go: to the proxy's socket, whose address is anybody's. */
export const TO_PROXY = { table: 100, local: true, device: 'lo', gateway: undefined } as const;
