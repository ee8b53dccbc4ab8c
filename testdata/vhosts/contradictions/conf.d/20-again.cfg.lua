-- Somebody tried something, long ago.
VirtualHost "meet.example.com"
  app_secret = "00112233445566778899aabbccddeeff"
  app_secret = "ffeeddccbbaa99887766554433221100"
