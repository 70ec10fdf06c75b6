interface Window {
  /** The page, for tests to ask what it shows. */
  replay: any;
}
