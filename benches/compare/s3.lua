-- As much of S3 as a copy into an empty bucket needs.
local method = ngx.req.get_method()
if method == "PUT" then
  ngx.req.read_body()
  local content = ngx.req.get_body_data() or ""
  -- Clients compare it; the one they send saves its reckoning here.
  local md5 = ngx.var.http_content_md5
  local etag
  if md5 then
    etag = (string.gsub(ngx.decode_base64(md5), ".", function(byte)
      return string.format("%02x", string.byte(byte))
    end))
  else
    etag = ngx.md5(content)
  end
  arrived.files, arrived.bytes = arrived.files + 1, arrived.bytes + #content
  ngx.header.etag = '"' .. etag .. '"'
  ngx.header.content_length = 0
  return ngx.exit(200)
end
if method == "HEAD" then
  return ngx.exit(404)
end
ngx.header.content_type = "application/xml"
ngx.say('<?xml version="1.0" encoding="UTF-8"?><ListBucketResult><Name>bench</Name><Prefix></Prefix>'
  .. "<MaxKeys>1000</MaxKeys><KeyCount>0</KeyCount><IsTruncated>false</IsTruncated></ListBucketResult>")
