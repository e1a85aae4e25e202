# nuclr on a CPU: docker build -f containers/cpu.Dockerfile -t nuclr .
FROM python:3.13-slim-trixie

# The CPU build, without gigabytes of CUDA.
RUN pip install --no-cache-dir torch==2.13.0 --index-url https://download.pytorch.org/whl/cpu
COPY containers/requirements.txt /tmp/requirements.txt
RUN pip install --no-cache-dir -r /tmp/requirements.txt
COPY . /tmp/source
RUN pip install --no-cache-dir --no-deps /tmp/source/ndx-nuclr /tmp/source && rm -r /tmp/source

# Nobody needs to be root to read recordings.
RUN useradd --create-home --uid 1000 nuclr
USER 1000
WORKDIR /data
ENTRYPOINT ["nuclr"]
CMD ["--help"]
