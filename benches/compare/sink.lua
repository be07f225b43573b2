-- An upload: reads the whole body first, then answers 201 with an ID of its own. Up to 1 MiB is
-- read into memory, more is drained from the socket: nothing reaches a disk.
local length = tonumber(ngx.var.http_content_length) or 0
local first
if length <= 1048576 then
  ngx.req.read_body()
  first = ngx.req.get_body_data() or ""
else
  local socket = ngx.req.socket()
  local left = length
  while left > 0 do
    local chunk = socket:receive(left < 262144 and left or 262144)
    if not chunk then
      return ngx.exit(400)
    end
    first = first or string.sub(chunk, 1, 4096)
    left = left - #chunk
  end
end

local delay = tonumber(ngx.var.delay)
if delay > 0 then
  ngx.sleep(delay)
end

local name = string.match(first, 'filename="([^"]*)"')
if not name then
  return ngx.exit(400)
end
local dataset = string.match(first, 'name="dataset_id"\r\n\r\n([^\r]*)') or ""
arrived.files, arrived.bytes = arrived.files + 1, arrived.bytes + length
arrived.id = arrived.id + 1

-- As long as the service's own answer.
local at = "2026-01-01T00:00:00.000000Z"
local creator = '{"id":17,"email":"bench@example.com","first_name":"Bench","last_name":"Mark",'
  .. '"organization":{"id":"3f2b7a52-0000-4000-8000-000000000002","name":"Example"}}'
local body = string.format(
  '{"id":"%08x-0000-4000-8000-%012x","dataset":{"id":"%s","name":"bench","creator":%s,'
    .. '"created_at":"%s"},"name":"%s","size":null,"creator":%s,"created_at":"%s"}',
  arrived.id, arrived.id, dataset, creator, at, name, creator, at
)
ngx.status = 201
ngx.header.content_type = "application/json"
ngx.header.content_length = #body
ngx.print(body)
